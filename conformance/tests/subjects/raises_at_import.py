"""An implementation whose import fails."""

raise OSError("libgpu.so: cannot open shared object file")
