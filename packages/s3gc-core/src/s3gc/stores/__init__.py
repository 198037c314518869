"""The object stores that come with s3gc: :mod:`s3gc.stores.s3` and :mod:`s3gc.stores.obstore`."""
