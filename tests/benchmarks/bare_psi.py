"""A PSI as people run it by hand: this script, once per party, started at the same moment.

``python bare_psi.py <party> <first port> <directory>``; the table is ``<directory>/<party>/table.csv``.
"""

import sys

import secretflow as sf

party, port, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]
parties = ["alice", "bob"]
sf.init(
    address=None,
    ray_mode=False,
    cluster_config={
        "parties": {p: {"address": f"127.0.0.1:{port + i}"} for i, p in enumerate(parties)},
        "self_party": party,
    },
    cross_silo_comm_backend="brpc_link",
    logging_level="warning",
    job_name="bare",
)
spu = sf.SPU(
    {
        "nodes": [{"party": p, "address": f"127.0.0.1:{port + 2 + i}"} for i, p in enumerate(parties)],
        "runtime_config": {"protocol": "SEMI2K", "field": "FM128"},
    }
)
reports = spu.psi(
    keys={p: ["uid"] for p in parties},
    input_path={p: f"{directory}/{p}/table.csv" for p in parties},
    output_path={p: f"{directory}/{p}/bare.csv" for p in parties},
    receiver="alice",
    protocol="PROTOCOL_RR22",
)
print(reports[0]["intersection_count"])
sf.shutdown()
