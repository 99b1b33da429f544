"""What other programs read: one product as a table, or a series of diffraction patterns for a Rietveld program."""

from operando.export.patterns import PATTERN_FORMATS, Written, export_patterns
from operando.export.tables import SUFFIXES, export, not_in_tables

__all__ = ["PATTERN_FORMATS", "SUFFIXES", "Written", "export", "export_patterns", "not_in_tables"]
