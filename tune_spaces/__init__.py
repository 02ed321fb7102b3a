"""Ray Tune search for the pruning rates of decoders: spaces as data, objective, choice."""
