"""Time zones as people write them: names of the tz database and fixed offsets; everything else is refused with what to write."""

from __future__ import annotations

import functools
import re
from typing import Any

from operando.config.words import plain, refuse, suggest

_ABBREVIATIONS = {
    "Europe/Paris": "CET CEST MET MEST",
    "Europe/London": "BST WET WEST",
    "Europe/Helsinki": "EET EEST",
    "Europe/Moscow": "MSK",
    "America/New_York": "EST EDT",
    "America/Chicago": "CST CDT",
    "America/Denver": "MST MDT",
    "America/Los_Angeles": "PST PDT",
    "Asia/Tokyo": "JST",
    "Asia/Seoul": "KST",
    "Asia/Kolkata": "IST",
    "Australia/Sydney": "AEST AEDT",
    "Pacific/Honolulu": "HST",
}
_CITIES = {
    "Europe/Paris": "grenoble saclay gif-sur-yvette france",
    "Europe/Berlin": "hamburg karlsruhe munich juelich germany",
    "Europe/London": "didcot oxford harwell england uk",
    "Europe/Zurich": "villigen switzerland",
    "Europe/Stockholm": "lund sweden",
    "Europe/Rome": "trieste italy",
    "Europe/Madrid": "barcelona spain",
    "America/Chicago": "argonne lemont",
    "America/Los_Angeles": "berkeley menlo_park stanford",
    "America/New_York": "upton ithaca",
    "Asia/Tokyo": "harima tsukuba",
    "Asia/Shanghai": "beijing china",
}


@functools.cache
def _zones() -> frozenset[str]:
    """Names of the tz database, from the package `tzdata`: the same on every computer."""
    from importlib.resources import files

    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())


def check_zone(value: Any) -> Any:
    """Take the name of a zone or a fixed offset from UTC; refuse everything that leaves open which clocks are meant."""
    expected = "a name such as Europe/Paris, or an offset such as +02:00"
    if isinstance(value, int) and not isinstance(value, bool):  # +2 is a number to YAML
        raise refuse("not a time zone", found=value, expected=expected, hint=f"write {value:+03d}:00")
    if not isinstance(value, str):
        raise refuse("not a time zone", found=repr(value)[:80], expected=expected)
    zone = value.strip()
    if match := re.fullmatch(r"([+-])(\d{2}):(\d{2})", zone):
        if int(match[2]) <= 14 and int(match[3]) < 60:
            return zone
        raise refuse("no such offset from UTC", found=zone, expected="-12:00 to +14:00")
    for name, words in _ABBREVIATIONS.items():
        if zone.upper() in words.split():
            hint = f"write the place whose clocks the instrument followed, for example {name}, or the fixed offset it kept"
            raise refuse("an abbreviation does not say which clocks, nor when summer time begins", found=zone, expected=expected, hint=hint)
    if zone.lower() in ("local", "localtime", "system", "auto", "here"):
        hint = "write the zone of the place where the instrument stood: the zone of the computer that analyses is never used"
        raise refuse("not a time zone", found=zone, expected=expected, hint=hint)
    if match := re.fullmatch(r"(?:UTC|GMT|Z|Etc/GMT)?\s*([+-])(\d{1,2}):?(\d{2})?", zone, re.IGNORECASE):
        sign = match[1] if not zone.lower().startswith("etc") else "-+"[match[1] == "-"]
        raise refuse("not a time zone", found=zone, expected=expected, hint=f"write {sign}{int(match[2]):02d}:{match[3] or '00'}")
    if zone in _zones():
        return zone
    near = suggest(zone, _zones()) if "/" in zone else None
    if near is None:
        word = plain(zone).rpartition("/")[2]
        last = {plain(name.rpartition("/")[2]): name for name in sorted(_zones(), reverse=True)}
        last.update({city.replace("-", "_"): name for name, cities in _CITIES.items() for city in cities.split()})
        near = last.get(word) or last.get(suggest(word, last) or "")
    raise refuse("not a time zone", found=zone, expected=expected, hint=f"did you mean {near}?" if near else None)
