"""Measures a bundle on this machine. In: a bundle and settings. Out: a report as JSON, a table and one HTML page.

What is measured is the production path: `runtime.Upscaler`, whose `Result.spans` say where the time went.
"""
