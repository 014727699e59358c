//! What `init` writes for somebody to fill in.

/// What `tls/README.md` says where certificates are to be real.
pub(super) const REAL_CERTIFICATES: &str = "\
# Certificates

`legal-aid-gateway cert csr tls --agency CODE --host NAME` makes the key and a request for the authority; `cert show FILE` says
what has come back. Put here, as PEM:

- `gateway.crt.pem`: the gateway's certificate chain, its own certificate first. It must name the organ by the URI
  subject alternative name `urn:legal-aid:agency:<unified social credit code>`, and its host by a DNS name.
- `gateway.key.pem`: its private key, mode 0600.
- `authorities.pem`: the certificate authorities that issue the agencies' certificates.

Then enrol agencies and agreements in `directory.toml`, and run `legal-aid-gateway doctor --config gateway.toml`.
";

/// A directory without anybody in it.
pub(super) const EMPTY_DIRECTORY: &str = "\
# Agencies and agreements. The default is deny: what no agreement allows is refused.
#
# [[agency]]
# code = \"…\"                    # unified social credit code, as in its certificate
# name = \"…\"
# kind = \"legal-aid-centre\"     # court, procuratorate, public-security-organ,
#                                 # civil-affairs-registry, poverty-registry, auditor, operator
# region = \"331004\"             # GB/T 2260; all below it too
# endpoint = { address = \"host:port\", server_name = \"host\" }   # registries, and agencies that take push
#
# [[operator]]                   # who may act, where an agreement says operators = \"listed\"; [[unit]] likewise
# agency = \"…\"
# unit = \"main\"
# staff_number = \"…\"
# until = \"2026-12-31\"
#
# [[agreement]]                  # taken into the database when new or of a higher version: docs/agreements.md
# id = \"…\"
# version = 1
# caller = \"…\"                # or { kind = \"legal-aid-centre\", region = \"331000\" }
# methods = [\"VerifyLowIncome\"]
# counterparts = [\"…\"]
# purposes = [\"AID_ELIGIBILITY\"]
# from = \"2026-01-01\"
# until = \"2026-12-31\"
# batch = { at_once = 16, per_second = 500 }   # how fast questions of BatchVerify go; 8 and 100 without it
# rate = { per_second = 50, burst = 100 }      # how fast calls come under it; unlimited without it
";
