"""One training in several processes: worker groups that stay up, and the coordinator that hands them jobs."""
