"""The script that builds the bundled `clipart` dataset; kept beside it, imported by nothing at run time."""
