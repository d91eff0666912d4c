"""Makes and judges small DoSSR models. In: photographs. Out: a checkpoint and figures of what its bundle restores."""
