"""SavedModels: numbered versions with warm-up requests, and graph sessions that run them."""
