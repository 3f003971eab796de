"""The report: one HTML file with tables, plots and a browser of outputs."""
