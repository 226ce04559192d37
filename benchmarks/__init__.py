"""The benchmarks; the program itself uses nothing here."""
