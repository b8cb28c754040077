"""Processes of jobs: started, named, watched and stopped."""
