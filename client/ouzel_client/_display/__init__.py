"""Results and jobs as people see them: pictures, HTML, progress."""
