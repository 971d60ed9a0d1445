"""What people run by hand: this script, once per party, started at the same moment.

``python bare.py lr|<PSI protocol> <party> <first port> <directory> <table>``; the table is
``<directory>/<party>/<table>.csv``.
"""

import sys

import secretflow as sf

work, party, port, directory, table = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]
parties = ["alice", "bob"]
paths = {p: f"{directory}/{p}/{table}.csv" for p in parties}
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


def intersect(protocol: str) -> int:
    reports = spu.psi(
        keys={p: ["uid"] for p in parties},
        input_path=paths,
        output_path={p: f"{directory}/{p}/bare.csv" for p in parties},
        receiver="alice",
        broadcast_result=True,
        protocol=protocol,
    )
    return int(reports[0]["intersection_count"])


def train() -> float:
    """AUC of the rows that it was trained with."""
    import numpy as np
    import pandas as pd
    from secretflow.data import FedNdarray, PartitionWay
    from secretflow.ml.linear import SSRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import StandardScaler

    alice, bob = (sf.PYU(p) for p in parties)

    def features(path: str) -> np.ndarray:
        return StandardScaler().fit_transform(pd.read_csv(path).filter(like="x"))

    def label(path: str) -> np.ndarray:
        return pd.read_csv(path)[["label"]].to_numpy(dtype=float)

    x = FedNdarray({p: p(features)(paths[p.party]) for p in (alice, bob)}, PartitionWay.VERTICAL)
    y = FedNdarray({bob: bob(label)(paths["bob"])}, PartitionWay.VERTICAL)
    model = SSRegression(spu)
    model.fit(x, y, epochs=3, learning_rate=0.3, batch_size=1024, sig_type="t1", reg_type="logistic")
    predictions = model.predict(x, to_pyu=bob).partitions[bob]

    def score(truth: np.ndarray, predicted: np.ndarray) -> float:
        return float(roc_auc_score(truth, predicted))

    return float(sf.reveal(bob(score)(y.partitions[bob], predictions)))


print("bare-result", train() if work == "lr" else intersect(work))
sf.shutdown()
