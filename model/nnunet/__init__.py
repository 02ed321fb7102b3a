"""Networks that nnU-Net v2 trained: read, run, and grown by decoders of ours."""
