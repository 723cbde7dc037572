"""The explorer: a page that asks the service, with what it needs vendored; no request leaves the machine.

Import from it: ``files``. ``vendor/`` holds packages of npm as they were published, with their licences.
"""
