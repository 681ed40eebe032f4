"""What several commands print and ask: tables, drawings of an example, options of draws."""
