"""A whole stamp on loopback, to rehearse with and to test against."""
