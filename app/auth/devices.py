"""What a person calls the device that a user agent names: browser and system. Pure."""

from __future__ import annotations

# In this order: Edge calls itself Chrome and Safari too, Chrome calls itself Safari.
BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
SYSTEMS = (
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
LONGEST_TOOL = 40


def device_of(user_agent: str | None) -> str:
    """Return "Firefox on Linux", the first word of a tool as "curl/8.5.0", or "unknown device"."""
    if not user_agent:
        return "unknown device"
    browser = _first(BROWSERS, user_agent)
    system = _first(SYSTEMS, user_agent)
    if browser is None:
        return user_agent.split()[0][:LONGEST_TOOL] if user_agent.split() else "unknown device"
    return f"{browser} on {system}" if system else browser


def _first(names: tuple[tuple[str, str], ...], text: str) -> str | None:
    return next((name for mark, name in names if mark in text), None)
