# SPDX-License-Identifier: Apache-2.0
"""The part of the Open_vSwitch schema (ovs-vswitchd.conf.db(5)) that we read or write.

The client replicates these columns and no others. Types are as the server's own schema has them since
OVS 2.7; one difference is deliberate: Bridge.ports and Open_vSwitch.bridges are plain UUIDs here, not
references, since we replicate only the rows that concern one request and ovs.db.idl drops references to
rows it has not got.
"""

from typing import Any

_STRING = "string"
_MAP = {"key": "string", "value": "string", "min": 0, "max": "unlimited"}
_UUIDS = {"key": "uuid", "min": 0, "max": "unlimited"}

OPEN_VSWITCH: dict[str, Any] = {
    "name": "Open_vSwitch",
    "version": "8.0.0",
    "tables": {
        "Open_vSwitch": {
            "isRoot": True,
            "maxRows": 1,
            "columns": {
                "bridges": {"type": _UUIDS},
                "cur_cfg": {"type": "integer"},
                "iface_types": {"type": {"key": "string", "min": 0, "max": "unlimited"}},
                "next_cfg": {"type": "integer"},
            },
        },
        "Bridge": {
            "columns": {
                "name": {"type": _STRING, "mutable": False},
                "datapath_type": {"type": _STRING},
                "external_ids": {"type": _MAP},
                "other_config": {"type": _MAP},
                "ports": {"type": _UUIDS},
            },
        },
        "Port": {
            "columns": {
                "name": {"type": _STRING, "mutable": False},
                "external_ids": {"type": _MAP},
                "interfaces": {"type": {"key": {"type": "uuid", "refTable": "Interface"}, "max": "unlimited"}},
                "other_config": {"type": _MAP},
                "protected": {"type": "boolean"},
                "tag": {"type": {"key": {"type": "integer", "minInteger": 0, "maxInteger": 4095}, "min": 0, "max": 1}},
            },
        },
        "Interface": {
            "columns": {
                "name": {"type": _STRING, "mutable": False},
                "type": {"type": _STRING},
                "error": {"type": {"key": "string", "min": 0, "max": 1}},
                "external_ids": {"type": _MAP},
                "mtu_request": {"type": {"key": "integer", "min": 0, "max": 1}},
                "ofport": {"type": {"key": "integer", "min": 0, "max": 1}},
                "options": {"type": _MAP},
            },
        },
    },
}
