"""The HEU (homomorphic encryption) layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, field_validator

from workers.contract.documents import Document, PartyName, SFInitConfig
from workers.contract.problems import Problem
from workers.devices.base import Device

#: Shortest keys, in bits, that are safe for real data. elgamal uses an elliptic curve, whose size is fixed.
SAFE_BITS = 2048


BIT_SIZE = "he_parameters.key_pair.generate.bit_size"


class KeyGeneration(Document):
    bit_size: int = Field(
        default=SAFE_BITS,
        ge=256,
        le=8192,
        multiple_of=2,
        description="Key length in bits; 2048 or more in production, 256 for elgamal.",
    )


class KeyPair(Document):
    generate: KeyGeneration = Field(default_factory=KeyGeneration, description="How the keys of each run are made.")


class HEParameters(Document):
    schema_: Literal["paillier", "zpaillier", "fpaillier", "ou", "dgk", "elgamal"] = Field(
        default="paillier", alias="schema", description="Encryption scheme: ou is the fastest, paillier the best known."
    )
    key_pair: KeyPair = Field(default_factory=KeyPair, description="The keeper's secret and public key.")

    @field_validator("schema_", mode="before")
    @classmethod
    def check_encrypts(cls, value: Any) -> Any:
        # HEU itself would accept them
        if isinstance(value, str) and value.lower() in ("mock", "none", "plain"):
            raise ValueError("encrypts nothing; use ou or paillier")
        return value


class EncoderArguments(Document):
    scale: int | None = Field(
        default=None, ge=1, le=2**62, description="Numbers are multiplied by it and rounded; 2 to the 26th if left out."
    )


class Encoding(Document):
    cleartext_type: Literal["DT_I32", "DT_I64", "DT_F32", "DT_F64"] = Field(
        default="DT_F32", description="Type of the numbers before encryption."
    )
    encoder: Literal["IntegerEncoder", "FloatEncoder", "BigintEncoder"] = Field(
        default="FloatEncoder", description="IntegerEncoder and BigintEncoder are for whole numbers, DT_I32 or DT_I64."
    )
    encoder_args: EncoderArguments = Field(default_factory=EncoderArguments, description="Arguments of the encoder.")


class HEUConfig(Document):
    """Layer 3: the HEU device."""

    enable_heu: bool = Field(
        default=True, description="Whether the HEU is on. If off, nothing of it is imported or started."
    )
    sk_keeper: PartyName | None = Field(
        default=None, description="Party that holds the secret key; the first party if left out."
    )
    evaluators: list[PartyName] = Field(
        default_factory=list, description="Parties that compute on ciphertexts; all others if left out."
    )
    mode: Literal["PHEU"] = Field(default="PHEU", description="Only PHEU, which adds ciphertexts.")
    he_parameters: HEParameters = Field(
        default_factory=HEParameters, description="Encryption scheme and key length. Longer keys are slower."
    )
    encoding: Encoding | None = Field(
        default=None, description="How numbers become the whole numbers that are encrypted; suits DT_F32 if left out."
    )


class HEU(Device):
    name = "heu"
    switch = "enable_heu"
    Document = HEUConfig

    @classmethod
    def check(cls, document: HEUConfig, cluster: SFInitConfig) -> Iterator[Problem]:
        parties = cluster.parties
        keeper = document.sk_keeper or parties[0]
        known = ", ".join(parties)
        if keeper not in parties:
            yield Problem("sk_keeper", "is not a party of sf_init_config", f"should be one of {known}")
        for index, party in enumerate(document.evaluators):
            if party not in parties:
                yield Problem(f"evaluators.{index}", "is not a party of sf_init_config", f"should be one of {known}")
            if party == keeper:
                yield Problem(f"evaluators.{index}", "is also the key keeper", "name parties other than sk_keeper")
        if len(set(document.evaluators)) != len(document.evaluators):
            yield Problem("evaluators", "names a party twice", "name each evaluator once")
        parameters, encoding = document.he_parameters, document.encoding or Encoding()
        bits = parameters.key_pair.generate.bit_size
        if parameters.schema_ == "elgamal" and bits != 256:
            yield Problem(BIT_SIZE, "elgamal takes 256 bits only", "set 256, or choose another schema")
        if parameters.schema_ != "elgamal" and bits < 1024:
            yield Problem(BIT_SIZE, f"is too short for {parameters.schema_}", "set 2048 (1024 for a trial)")
        if encoding.encoder != "FloatEncoder" and encoding.cleartext_type in ("DT_F32", "DT_F64"):
            yield Problem(
                "encoding.cleartext_type", f"{encoding.encoder} would drop the fractions", "use DT_I32 or DT_I64"
            )
        if encoding.encoder == "BigintEncoder" and encoding.encoder_args.scale is not None:
            yield Problem("encoding.encoder_args.scale", "BigintEncoder would ignore it", "remove it")
        if parameters.schema_ == "dgk" and encoding.encoder != "BigintEncoder":
            yield Problem(
                "he_parameters.schema", "dgk has no room for scaled numbers", "use another, or the BigintEncoder"
            )

    @classmethod
    def check_security(cls, document: HEUConfig) -> Iterator[Problem]:
        parameters = document.he_parameters
        if parameters.schema_ != "elgamal" and 1024 <= parameters.key_pair.generate.bit_size < SAFE_BITS:
            yield Problem(BIT_SIZE, f"is too short for {parameters.schema_} on real data", f"set {SAFE_BITS} or more")

    def start(self, document: HEUConfig, cluster: SFInitConfig) -> None:
        import secretflow as sf
        import spu

        keeper = document.sk_keeper or cluster.parties[0]
        evaluators = document.evaluators or [p for p in cluster.parties if p != keeper]
        config: dict[str, Any] = {
            "sk_keeper": {"party": keeper},
            "evaluators": [{"party": p} for p in evaluators],
            "mode": document.mode,
            "he_parameters": document.he_parameters.model_dump(by_alias=True),
        }
        if document.encoding:
            config["encoding"] = document.encoding.model_dump(exclude_none=True)
        self.device = sf.HEU(config, spu.FieldType.FM128)

    def stop(self) -> None:
        self.device = None
