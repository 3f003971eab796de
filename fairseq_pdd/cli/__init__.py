"""Commands of this package's own: ``fairseq-pdd --help``."""
