"""SavedModels: numbered versions with warm-up requests, and a graph session that runs one."""
