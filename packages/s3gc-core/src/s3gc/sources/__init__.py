"""Places of references that come with s3gc. :class:`s3gc.sources.sql.SqlSource` reads SQL databases."""
