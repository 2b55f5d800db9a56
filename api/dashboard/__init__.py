"""The dashboard: a page that a browser runs from static files, on the same API that customers and operators call.

Nothing is built: ``static/js`` are the modules as they run, ``static/vendor`` a library held by version and hash. The
page knows what its reader's credential may see and nothing else, so serving it needs no credential.
"""

from .pages import DashboardPages, mount_dashboard

__all__ = ["DashboardPages", "mount_dashboard"]
