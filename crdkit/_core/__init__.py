"""Shared by every room and called by no user: registries, atomic files, progress, threads, ranks, devices."""
