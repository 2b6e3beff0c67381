"""AMD machine code, executed instruction by instruction on the CPU."""
