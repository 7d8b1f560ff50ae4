"""Text in, tf.data batches out. Knows no model and never imports docproduct."""
