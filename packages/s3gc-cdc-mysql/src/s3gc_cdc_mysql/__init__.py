"""Change capture from MySQL and MariaDB for s3gc."""
