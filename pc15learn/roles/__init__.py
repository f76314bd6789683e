"""LightningModules: only the training of nets that live in `pc15.hooks.nets`."""
