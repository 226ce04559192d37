"""Access to the operating system: files, processes, threads, signals, terminal, network."""
