"""One polite, bounded HTTP client: deadlines, rate limits, retries, downloads.

Import from it: ``client``, ``download``. It must not know what an answer means; that is a source's business.
"""
