"""What the operating system is asked for: files, processes, threads, signals, terminal, network."""
