"""Rules of spu_config and heu_config."""

from __future__ import annotations

from typing import Any

from tests.rules.base import AT_A_PARTY, TRIAL, Known, Rule, dispatched, psi, psi_of_three, with_heu

RUNTIME = "spu_config/runtime_config"
RUNTIME_PATH = "spu_config.runtime_config"
SCHEMA = "heu_config.he_parameters.schema"
BITS = "heu_config.he_parameters.key_pair.generate.bit_size"


def key(schema: str, bits: int) -> dict[str, Any]:
    return {"he_parameters": {"schema": schema, "key_pair": {"generate": {"bit_size": bits}}}}


def runtime(good: dict[str, Any], bad: dict[str, Any], option: str, says: str, **more: Any) -> Rule:
    return Rule(more.pop("base", psi), RUNTIME, good, bad, f"{RUNTIME_PATH}.{option}", says, **more)


RULES = [
    # SPU: which protocol for how many parties
    *(
        runtime({"protocol": good}, {"protocol": bad}, "protocol", says, base=base, known=TRIAL)
        for base, good, bad, says in (
            (psi, "CHEETAH", "ABY3", "ABY3 needs exactly 3 parties, the cluster has 2; use SEMI2K or CHEETAH"),
            (psi, "REF2K", "SECURENN", "SECURENN needs exactly 3 parties"),
            (psi_of_three, "ABY3", "CHEETAH", "CHEETAH needs exactly 2 parties, the cluster has 3; use SEMI2K or ABY3"),
            (psi_of_three, "SECURENN", "CHEETAH", "or SECURENN"),
        )
    ),
    runtime({"field": "FM64"}, {"field": "FM256"}, "field", "'FM32', 'FM64' or 'FM128'"),
    runtime({"protocol": "CHEETAH", "field": "FM64"}, {"protocol": "CHEETAH", "field": "FM32"}, "field",
            "CHEETAH loses precision on FM32; use FM64 or FM128", known=TRIAL),
    Rule(
        dispatched, "spu_config/nodes",
        dispatched()["spu_config"]["nodes"][::-1], dispatched()["spu_config"]["nodes"][:1] * 2,
        "spu_config.nodes", "are not the parties of sf_init_config, once each", AT_A_PARTY,
    ),
    Rule(dispatched, "spu_config/nodes/0/listen_address", "[::1]:9", "::1", "spu_config.nodes.0.listen_address",
         "should be host:port", AT_A_PARTY),
    # SPU: options that would be ignored, or that it does not compute with
    *(
        runtime({"field": field, "fxp_fraction_bits": most}, {"field": field, "fxp_fraction_bits": most + 1},
                "fxp_fraction_bits", says, known=TRIAL)
        for field, most, says in (
            ("FM32", 15, "leaves products no room in FM32; use at most 15"),
            ("FM64", 31, "leaves products no room in FM64; use at most 31"),
            ("FM128", 63, "less than or equal to 63"),
        )
    ),
    runtime({"fxp_exp_iters": 4}, {"fxp_exp_mode": "EXP_PADE", "fxp_exp_iters": 4}, "fxp_exp_iters",
            "is for EXP_TAYLOR, EXP_PADE would ignore it"),
    runtime({"fxp_exp_mode": "EXP_PADE"}, {"fxp_exp_mode": "EXP_PRIME"}, "fxp_exp_mode", "or 'EXP_TAYLOR'"),
    *(
        runtime({"fxp_log_mode": "LOG_NEWTON", option: 4}, bad | {option: 4}, option, "is for LOG_NEWTON")
        for option in ("fxp_log_iters", "fxp_log_orders")
        for bad in ({}, {"fxp_log_mode": "LOG_PADE"})
    ),
    runtime({"sigmoid_mode": "SIGMOID_REAL"}, {"sigmoid_mode": "SIGMOID_SEG3"}, "sigmoid_mode", "would be ignored"),
    runtime({}, {"sine_cosine_iters": 4}, "sine_cosine_iters", "would be ignored by this SPU; leave it out"),
    runtime({"protocol": "REF2K", "sort_method": "SORT_NETWORK"}, {"protocol": "REF2K", "sort_method": "SORT_RADIX"},
            "sort_method", "REF2K cannot sort like that; leave it out, or use SORT_NETWORK", known=TRIAL),
    runtime({"sort_method": "SORT_QUICK", "quick_sort_threshold": 9}, {"quick_sort_threshold": 9},
            "quick_sort_threshold", "is for SORT_QUICK and may be ignored"),
    runtime({"beaver_type": "TrustedFirstParty"}, {"beaver_type": "MultiParty"}, "beaver_type",
            "is not offered by any of these protocols"),
    runtime({"beaver_type": "TrustedFirstParty"}, {"protocol": "CHEETAH", "beaver_type": "TrustedFirstParty"},
            "beaver_type", "is for SEMI2K, CHEETAH would ignore it"),
    runtime({"trunc_allow_msb_error": True}, {"protocol": "CHEETAH", "trunc_allow_msb_error": True},
            "trunc_allow_msb_error", "is for SEMI2K, CHEETAH would ignore it"),
    # SPU: security
    runtime({"protocol": "SEMI2K"}, {"protocol": "REF2K"}, "protocol", "REF2K protects nothing; use SEMI2K"),
    runtime({"protocol": "REF2K"}, {"protocol": "REF2K"}, "protocol", "REF2K protects nothing", known_good=TRIAL),
    runtime({"field": "FM64"}, {"field": "FM32"}, "field", "too small a ring for real data; use FM64 or FM128"),
    runtime({"field": "FM32"}, {"field": "FM32"}, "field", "too small a ring", known_good=TRIAL),
    # HEU: who
    Rule(with_heu, "heu_config/evaluators", ["bob"], ["carol"], "heu_config.evaluators.0", "is not a party of"),
    Rule(with_heu, "heu_config/evaluators", ["bob"], ["alice"], "heu_config.evaluators.0", "is also the key keeper"),
    Rule(with_heu, "heu_config/evaluators", ["bob"], ["bob", "bob"], "heu_config.evaluators", "names a party twice"),
    # HEU: schemes and keys
    *(
        Rule(with_heu, "heu_config/he_parameters", {"schema": "ou"}, {"schema": nothing}, SCHEMA,
             "encrypts nothing; use ou or paillier", known)
        for nothing in ("mock", "none", "plain", "Mock")
        for known in (Known(), TRIAL)
    ),
    Rule(with_heu, "heu_config/he_parameters", {"schema": "ou"}, {"schema": "rsa"}, SCHEMA, "should be 'paillier'"),
    Rule(with_heu, "heu_config/he_parameters", {"schema": "ou"}, {"schem": "ou"}, "heu_config.he_parameters.schem",
         "did you mean 'schema'?"),
    Rule(with_heu, "heu_config", key("elgamal", 256), key("elgamal", 2048), BITS, "elgamal takes 256 bits only"),
    Rule(with_heu, "heu_config", key("ou", 1024), key("ou", 1022), BITS, "is too short for ou; set 2048", TRIAL),
    Rule(with_heu, "heu_config", key("paillier", 2048), key("paillier", 2049), BITS, "multiple of 2"),
    *(
        rule
        for schema in ("paillier", "zpaillier", "fpaillier", "ou")
        for rule in (
            Rule(with_heu, "heu_config", key(schema, 2048), key(schema, 2046), BITS,
                 f"is too short for {schema} on real data; set 2048 or more"),
            Rule(with_heu, "heu_config", key(schema, 1024), key(schema, 1024), BITS, "too short", known_good=TRIAL),
        )
    ),
    # HEU: encoding
    Rule(
        with_heu, "heu_config/encoding",
        {"encoder": "IntegerEncoder", "cleartext_type": "DT_I32"}, {"encoder": "IntegerEncoder"},
        "heu_config.encoding.cleartext_type", "IntegerEncoder would drop the fractions; use DT_I32 or DT_I64",
    ),
    Rule(
        with_heu, "heu_config/encoding",
        {"encoder": "BigintEncoder", "cleartext_type": "DT_I64"},
        {"encoder": "BigintEncoder", "cleartext_type": "DT_I64", "encoder_args": {"scale": 2}},
        "heu_config.encoding.encoder_args.scale", "BigintEncoder would ignore it",
    ),
    Rule(
        with_heu, "heu_config",
        key("dgk", 2048) | {"encoding": {"encoder": "BigintEncoder", "cleartext_type": "DT_I64"}}, key("dgk", 2048),
        SCHEMA, "dgk has no room for scaled numbers",
    ),
]  # fmt: skip
