"""The documentation: manual pages and a site, generated from the program and checked."""
