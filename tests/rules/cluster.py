"""Rules of sf_init_config, and of the set of documents as a whole."""

from __future__ import annotations

from tests.rules.base import AT_A_PARTY, TRIAL, Known, Rule, dispatched, psi, with_heu

CLUSTER = "sf_init_config"
OPTIONS = f"{CLUSTER}/cross_silo_comm_options"
OPTIONS_PATH = f"{CLUSTER}.cross_silo_comm_options"
REMOTE = {"alice": {"address": "alice.example:1"}, "bob": {"address": "bob.example:1"}}

RULES = [
    # the documents
    Rule(psi, "gpu_config", ..., {}, "gpu_config", "unknown document; did you mean 'spu_config'?"),
    Rule(psi, "sf_init_config", {"parties": ["alice", "bob"]}, ..., "sf_init_config", "is required; add it"),
    Rule(psi, "heu_config", {"enable_heu": False}, ..., "heu_config", 'is required; say {"enable_heu": false}'),
    Rule(psi, "spu_config", {}, ..., "spu_config", "is required"),
    Rule(psi, "spu_config", {}, [], "spu_config", "is not a JSON object; should be an object with named keys"),
    # the parties
    Rule(psi, f"{CLUSTER}/parties", ["bob", "alice"], ["alice"], f"{CLUSTER}.parties", "should have at least 2"),
    Rule(psi, f"{CLUSTER}/parties", ["bob", "alice"], [f"p{i}" for i in range(33)], f"{CLUSTER}.parties", "at most 32"),
    Rule(psi, f"{CLUSTER}/parties", ["bob", "alice"], ["bob", "bob"], f"{CLUSTER}.parties", "names a party twice"),
    Rule(psi, f"{CLUSTER}/parties", ["bob", "alice"], ["bob", "Alice"], f"{CLUSTER}.parties.1", "is not a valid name"),
    Rule(
        psi, f"{CLUSTER}/parties", ["bob", "alice"], ["bob", "alise"], f"{CLUSTER}.parties.1",
        "no party 'alise' is registered; did you mean 'alice'?",
    ),
    Rule(dispatched, f"{CLUSTER}/self_party", "bob", "carol", f"{CLUSTER}.self_party", "should be one of alice, bob",
         AT_A_PARTY),
    # what is filled in
    Rule(psi, f"{CLUSTER}/self_party", None, "bob", f"{CLUSTER}.self_party", "is filled in at dispatch; leave it out"),
    Rule(psi, f"{CLUSTER}/job_name", None, "job", f"{CLUSTER}.job_name", "is filled in at dispatch; leave it out"),
    Rule(psi, f"{CLUSTER}/cluster", {}, dispatched()[CLUSTER]["cluster"], f"{CLUSTER}.cluster", "is filled in at"),
    Rule(
        psi, "task_config/column_types", {}, {"t": {"a": "str"}}, "task_config.column_types", "is filled in at dispatch"
    ),
    Rule(psi, "spu_config/nodes", [], dispatched()["spu_config"]["nodes"], "spu_config.nodes", "is filled in at"),
    # what is not offered
    Rule(psi, f"{CLUSTER}/mode", "production", "debug", f"{CLUSTER}.mode", "debug mode is not offered yet"),
    Rule(psi, f"{CLUSTER}/mode", "production", "prod", f"{CLUSTER}.mode", "'production' or 'debug'"),
    Rule(psi, f"{CLUSTER}/mode", "production", "debug", f"{CLUSTER}.mode", "not offered yet; use production", TRIAL),
    Rule(psi, f"{CLUSTER}/address", None, "auto", f"{CLUSTER}.address", "Ray inside a party is not offered yet"),
    # where they listen
    Rule(
        dispatched, f"{CLUSTER}/cluster", dispatched()[CLUSTER]["cluster"], {"alice": {"address": "127.0.0.1:1"}},
        f"{CLUSTER}.cluster", "does not list each party once; should list alice, bob", AT_A_PARTY,
    ),
    Rule(
        dispatched, f"{CLUSTER}/cluster/bob/address", "127.0.0.1:20002", "127.0.0.1:20000",
        f"{CLUSTER}.cluster.bob", "127.0.0.1:20000 is used twice; give each listener its own port", AT_A_PARTY,
    ),
    Rule(
        dispatched, "spu_config/nodes/0/address", "[::1]:20000", "127.0.0.1:20000",
        "spu_config.nodes.0", "127.0.0.1:20000 is used twice", AT_A_PARTY,
    ),
    Rule(
        dispatched, "spu_config/nodes/0/listen_address", "0.0.0.0:20001", "0.0.0.0:20000",
        "spu_config.nodes.0", "alice would listen on port 20000 twice", Known("trial", AT_A_PARTY.addresses),
    ),
    Rule(
        dispatched, f"{CLUSTER}/cluster/bob/address", "localhost:65535", "localhost:65536",
        f"{CLUSTER}.cluster.bob.address", "should be host:port with a port from 1 to 65535", AT_A_PARTY,
    ),
    Rule(
        dispatched, f"{CLUSTER}/cluster/bob/listen_addr", "localhost:1", "0.0.0.0",
        f"{CLUSTER}.cluster.bob.listen_addr", "should be host:port", AT_A_PARTY,
    ),
    # transport: cleartext stays on one machine
    Rule(psi, f"{CLUSTER}/tls_config", {}, [], f"{CLUSTER}.tls_config", "should be an object with named keys"),
    Rule(
        psi, f"{CLUSTER}/tls_config", {"enabled": True}, {"ca_cert": "ca.pem"},
        f"{CLUSTER}.tls_config.ca_cert", "unknown key; known: enabled",
    ),
    *(
        Rule(
            psi, f"{CLUSTER}/tls_config", good, bad, f"{CLUSTER}.tls_config",
            f'{party} is not on the loopback interface; set it to {{"enabled": true}}', Known(addresses={party: host}),
        )
        for party, host, good, bad in (
            ("alice", "10.0.0.1", {}, None),
            ("bob", "host.example", {"enabled": True}, {"enabled": False}),
            ("bob", "[2001:db8::1]", {"enabled": True}, ...),
            ("bob", "127.0.0.1.example", {"enabled": True}, ...),
            ("bob", "0.0.0.0", {"enabled": True}, ...),
        )
    ),
    *(
        Rule(
            psi, f"{CLUSTER}/tls_config", None, None, f"{CLUSTER}.tls_config", "not on the loopback interface",
            Known(addresses={"alice": "10.0.0.1"}), known_good,
        )
        for known_good in (
            *(Known(addresses={"alice": host}) for host in ("localhost", "127.8.8.8", "[::1]", "::1", None)),
            Known("trial", {"alice": "10.0.0.1"}),
        )
    ),
    Rule(
        dispatched, f"{CLUSTER}/cluster", {"alice": {"address": "localhost:1"}, "bob": {"address": "[::1]:1"}}, REMOTE,
        f"{CLUSTER}.tls_config", "alice and bob are not on the loopback interface", AT_A_PARTY,
    ),
    Rule(
        dispatched, f"{CLUSTER}/cluster/bob/listen_addr", "127.0.0.1:1", "0.0.0.0:1",
        f"{CLUSTER}.tls_config", "in cleartext: bob is not on the loopback interface", AT_A_PARTY,
    ),
    Rule(
        dispatched, "spu_config/nodes/0/listen_address", "[::1]:1", "[::]:1",
        f"{CLUSTER}.tls_config", "in cleartext: alice is not on the loopback interface", AT_A_PARTY,
    ),
    Rule(
        dispatched, f"{CLUSTER}/cluster/bob/address", "127.0.0.1:1", "bob.example:1", f"{CLUSTER}.tls_config",
        "bob is not on the loopback interface", AT_A_PARTY,
    ),
    Rule(
        dispatched, "spu_config/nodes/1/address", "127.0.0.1:1", "bob.example:1", f"{CLUSTER}.tls_config",
        "bob is not on the loopback interface", AT_A_PARTY,
    ),
    Rule(
        dispatched, f"{CLUSTER}/cluster/bob",
        {"address": "127.0.0.1:1", "listen_addr": "[::1]:1"}, {"address": "bob.example:1", "listen_addr": "[::1]:1"},
        f"{CLUSTER}.tls_config", "bob is not on the loopback interface", AT_A_PARTY,
    ),
    # options of the links
    Rule(psi, OPTIONS, {"recv_timeout_ms": 5000}, {"recv_timeout": 5000}, f"{OPTIONS_PATH}.recv_timeout",
         "unknown key; did you mean 'recv_timeout_ms'?"),
    Rule(psi, OPTIONS, {"connect_retry_times": 1}, {"connect_retry_times": 0}, f"{OPTIONS_PATH}.connect_retry_times",
         "greater than or equal to 1"),
    Rule(psi, OPTIONS, {"throttle_window_size": 0}, {"throttle_window_size": 2**32},
         f"{OPTIONS_PATH}.throttle_window_size", "less than or equal to"),
    Rule(
        psi, CLUSTER,
        {"parties": ["alice", "bob"], "cross_silo_comm_options": {"recv_timeout_ms": 5000}},
        {
            "parties": ["alice", "bob"],
            "cross_silo_comm_backend": "grpc",
            "cross_silo_comm_options": {"recv_timeout_ms": 5000},
        },
        f"{OPTIONS_PATH}.recv_timeout_ms", "belongs to brpc_link, grpc would ignore it; remove it, or use brpc_link",
    ),
    Rule(
        psi, CLUSTER,
        {
            "parties": ["alice", "bob"],
            "cross_silo_comm_backend": "grpc",
            "cross_silo_comm_options": {"messages_max_size_in_bytes": 2048, "timeout_in_ms": 1000},
        },
        {"parties": ["alice", "bob"], "cross_silo_comm_options": {"messages_max_size_in_bytes": 2048}},
        f"{OPTIONS_PATH}.messages_max_size_in_bytes", "belongs to grpc, brpc_link would ignore it",
    ),
    Rule(
        psi, OPTIONS, {"timeout_in_ms": 1000}, {"timeout_in_ms": 1000, "http_timeout_ms": 1000},
        f"{OPTIONS_PATH}.timeout_in_ms", "is the same as http_timeout_ms; give one of the two",
    ),
    *(
        Rule(
            psi, place, {"brpc_channel_protocol": protocol, "brpc_channel_connection_type": good},
            {"brpc_channel_protocol": protocol} | ({"brpc_channel_connection_type": bad} if bad else {}),
            f"{path}.brpc_channel_connection_type", says,
        )
        for place, path in ((OPTIONS, OPTIONS_PATH), ("spu_config/link_desc", "spu_config.link_desc"))
        for protocol, good, bad, says in (
            ("http", "pooled", None, "http has no single connections; use pooled or short"),
            ("http", "short", "single", "http has no single connections"),
            ("h2", "single", "pooled", "h2 takes single connections alone; use single"),
            ("h2:grpc", "single", "short", "h2:grpc takes single connections alone"),
        )
    ),
    Rule(psi, OPTIONS, {"brpc_channel_protocol": "baidu_std"}, {"brpc_channel_protocol": "nshead"},
         f"{OPTIONS_PATH}.brpc_channel_protocol", "should be 'baidu_std', 'http', 'h2' or 'h2:grpc'"),
    # parties of the layers agree
    Rule(
        dispatched, "spu_config/nodes/1/party", "bob", "carol",
        "spu_config.nodes", "are not the parties of sf_init_config, once each; should name alice, bob", AT_A_PARTY,
    ),
    Rule(with_heu, "heu_config/sk_keeper", "bob", "carol", "heu_config.sk_keeper", "should be one of alice, bob"),
]  # fmt: skip
