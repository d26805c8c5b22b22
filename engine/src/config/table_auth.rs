//! The rows of the options table that say who may do what.

use super::options::{Kind, Opt, Shown};
use super::table::opt;
use Kind::{
    AuthUrl, Bool, Int, Millis, Networks, OneOf, Path, Patterns, Roles, Seconds, Text, UrlPath,
};

pub(super) const AUTH: &[Opt] = &[
    opt(
        "authurl",
        AuthUrl,
        "",
        "Authorisation server that is asked who may do what; 200 allows, any other answer refuses, \
         and so does none.",
    ),
    opt("authurl@timeout", Millis(50, 60_000), "3000", "The answer must be complete by then."),
    opt("authurl@router", UrlPath, "", "Path that the questions begin with."),
    opt(
        "auth/ask",
        Roles,
        "publisher,player,api,upload,download",
        "Who is asked about, where there is an authurl.",
    ),
    opt("auth/method", OneOf(&["PUT", "GET"]), "PUT", "Method of the questions."),
    opt(
        "auth/http_type",
        OneOf(&["http", "rtmp"]),
        "http",
        "What the questions call plays by HTTP: type=http, or type=rtmp as old servers do.",
    ),
    opt("auth/ca", Path, "", "Authorities of an https authurl, PEM; empty = those of the system."),
    opt("auth/secret", Text, "", "Sent with the questions as Authorization: Bearer.")
        .secret(Shown::Nothing),
    opt(
        "auth/cache",
        Seconds(0, 3600),
        "5",
        "HLS, DASH, recordings and files: for so long a viewer is not asked about again.",
    ),
    opt(
        "auth/recheck",
        Seconds(0, 86_400),
        "0",
        "Running sessions are judged again so often, and end when they are refused; 0 = never.",
    ),
    opt(
        "auth/require",
        Roles,
        "",
        "Who must show a credential of those below; empty = the roles of the users, and publishers \
         and players where there are keys.",
    ),
    opt(
        "auth/open_publish",
        Bool,
        "false",
        "Where publishers need no credential, let them come from public addresses too, not only \
         from this machine and private networks.",
    ),
    opt("auth/user@name", Text, "", "A user, once per element.").many(),
    opt("auth/user@password", Text, "", "Password, or its Argon2 hash ($argon2id$…).")
        .many()
        .secret(Shown::Nothing),
    opt("auth/user@roles", Roles, "", "What the user may be; empty = publisher and player.").many(),
    opt("auth/user@streams", Patterns, "", "Streams it may use (files: vod/NAME); empty = all.")
        .many(),
    opt(
        "auth/sign_key",
        Text,
        "",
        "Key of signed URLs, 16 characters or more; several elements, several keys.",
    )
    .many()
    .secret(Shown::Nothing),
    opt("auth/jwt_secret", Text, "", "JSON Web Tokens: secret of HS256, 32 characters or more.")
        .secret(Shown::Nothing),
    opt("auth/jwt_key", Path, "", "The same: public key of RS256 or ES256, PEM."),
    opt("auth/jwt_jwks", Path, "", "The same: keys of RS256 and ES256 as a JSON Web Key Set."),
    opt("auth/jwt_issuer", Text, "", "The claim iss that a token must have; empty = any or none."),
    opt("auth/jwt_audience", Text, "", "The claim aud that a token must have."),
    opt("auth/address@roles", Roles, "", "Whom this element is about; empty = everybody.").many(),
    opt("auth/address@deny", Networks, "none", "Addresses that are refused.").many(),
    opt(
        "auth/address@allow",
        Networks,
        "none",
        "Addresses outside of which is refused. Publishers from there need no credential unless \
         others do.",
    )
    .many(),
    opt(
        "auth/failures",
        Int(0, 1_000_000),
        "10",
        "Wrong credentials per minute, address (IPv6: per /64) and shard, after which no more are \
         looked at; 0 = no limit, this machine is exempt.",
    ),
    opt(
        "auth/token_file",
        Path,
        "admin.token",
        "File of the token that opens the API to any address (Authorization: Bearer); made at the \
         first start.",
    )
    .restart(),
];
