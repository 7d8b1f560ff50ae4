"""Text in, tf.data batches out. Knows no model and never imports docproduct."""

from data_pipeline.tensorflow_startup import hold_back

hold_back()
