"""The explorer: a page that asks the service, or what is packed into its own file; no request leaves the machine.

Import from it: ``files``, ``offline``. ``vendor/`` holds packages of npm as they were published, with their licences.
"""
