//! Tokens that PyJWT made, one a constant; keys beside it. `far` is 2100-01-01.

/// Secret of HS256.
pub(super) const SECRET: &str = "a secret of at least 32 characters";
/// `{exp: far}`; HS256 with `SECRET`, as all that say nothing else.
pub(super) const PLAYER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDB9.l58nCO_9tIFFpqIIQN\
     6R3Ygh4QaAP7ETIEulbEVOZBI";
/// `{exp: far, role: "publisher", stream: "live/stream"}`
pub(super) const PUBLISHER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDAsInJvbGUiOiJwdWJsaXN\
     oZXIiLCJzdHJlYW0iOiJsaXZlL3N0cmVhbSJ9.Gg387ZUBxC8rnk4xYJSwe1kg1GOFSluhJ3beDqCL7p\
     g";
/// `{exp: far, roles: ["player", "api", "admin"], streams: ["rec/*", "live/str*"], iss: "issuer",
/// aud: ["x", "audience"]}`
pub(super) const LISTS: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDAsInJvbGVzIjpbInBsYXl\
     lciIsImFwaSIsImFkbWluIl0sInN0cmVhbXMiOlsicmVjLyoiLCJsaXZlL3N0cioiXSwiaXNzIjoiaXN\
     zdWVyIiwiYXVkIjpbIngiLCJhdWRpZW5jZSJdfQ.neTVsnTZQKVPcmgJfxf-eEYtAHyE43w-5D-sakZi\
     AWM";
/// `{exp: far, ip: "203.0.113.7"}`
pub(super) const BOUND: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDAsImlwIjoiMjAzLjAuMTE\
     zLjcifQ.n2O7Wrwf5JoAR-CAKXdwhzDutMwUvMK8OsPpNqG4yjw";
/// `{exp: 1500000000}`
pub(super) const EXPIRED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE1MDAwMDAwMDB9.woOTtAGYMS0wFQEExl\
     v2tf6GJCzlp16O9FVgALzakoo";
/// `{exp: far, nbf: far - 1}`
pub(super) const EARLY: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDAsIm5iZiI6NDEwMjQ0NDc\
     5OX0.cOkg_NLwL8qNs0aUU0jixvLuyjgXRHGgyUE1ePBk6D4";
/// `{role: "player"}`
pub(super) const ENDLESS: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJyb2xlIjoicGxheWVyIn0.tsatT57lN5mru62lphq\
     pHI-Czpau-Z8Pb34Il7EF1oA";
/// `{exp: far}` with another secret.
pub(super) const FOREIGN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDB9._smCY7z1wAp8Yyaq00\
     BPCcY7YzzE7rL7ZQD_zo6ka-I";
/// `{exp: far}`, HS512.
pub(super) const HS512: &str = "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDB9.F4nBQMgBpV2-xEl9iu\
     fUsWozpkj-fb4whhsSgi9B15wNxIbDKHOwY5OlUQQ9vCnk659pAvmLzzd9bGMRcvWG9Q";
/// `{exp: far}`, not signed.
pub(super) const NONE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJleHAiOjQxMDI0NDQ4MDB9.";
/// `{exp: far}`, RS256, kid `r1`.
pub(super) const RS256: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InIxIiwidHlwIjoiSldUIn0.eyJleHAiOjQxMDI0NDQ4MDB9.aUm\
     5OL8_laEDQybTFZP2p9tnwubIbER8b1GWJSTJIx1obOuTu7vtPsB907RoV3rQ1q8PDIAGCGGEWSudvF4\
     -K_jSX_xUPLzGbt0IwTyNiFmpTOSn17MYQs6Vl1zJ9kxh3Y64Roo1BoJr9Gkhr013syg1ENX3IbRGFR4\
     tUPQzWzuJlRdUU2N1anf6yLg8QN_tBKBrDjnjBDsI2Sw4UHG9sIJhULN5gZPJEGeEMUMKRwok69eqcPC\
     dENRm5G21smb8RAJYDDwKrgQOau35NmkQP9gx2Q-Y7SFOQQven03q_T8qIN_PHTWpsTV4ZhVM20ZtFP3\
     zZKVjWl1GAPhAZ3F-Jg";
/// The same without kid.
pub(super) const RS256_UNNAMED: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDB9.XQPt6EqxxNzeps29JZ\
     FlmZR7ndXgGAgXO0liDiKR5vjLb5OVBrIy0XIb0eOygQlyCX8rqcSgnEj6rIEGGt7gGIYir7cCL9oKYM\
     48-MaykPXdypuJhWrluW2j8OAhbz6T83MmnZx-TdPCH1syk_2iy87kfQGp3GmbEDAEaCxwWJteOMPOO6\
     MD700s7N5SVxlr3A5FtBZa8gYaeDDhSfiFA1Ozivu9Pk7dLSWxJSFjDMMpaFopkjxKTfngrMwnPr_vGl\
     7Ob7-rSfOFtGkW0MMO00iDgjtCKmLzAudZZ5iEluukiSkKbGRvD-UxD1lH-WuPM0TOSgEktZFVrF0oKq\
     qvSw";
/// The same with kid `r2`.
pub(super) const RS256_OTHER_NAME: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InIyIiwidHlwIjoiSldUIn0.eyJleHAiOjQxMDI0NDQ4MDB9.Hrn\
     oJNM1yTgTQSRSbfRF-M7qmU-gGycc-wIM3vyrP5UDYoG7HSevOdVhnbtSCpFqhWShOHpEDD1zNLYC9a-\
     WLvaCOijGLJguVkvLs571K8G1NEXRiVJNMWi8DJvFoYLZ7Ll22K--_G7_LRn2aw0wxojZ_GKXwUHkbW_\
     uuwHQ45nEssdLv0PeRqos2WYst4pzvcTvFwL0FsNFfdGkMjSca77C8uowV87GFWsUJxG63vvW5sovYCl\
     jMpVRakULXOstcer3k7THOwwjl6aNtfqMHxjHZyRKAs69kRMABMm9jTi-q_aZAPB4n5KXFxV6LwGugdK\
     ydIMe0WAvG-TKODk--w";
/// `{exp: far}`, ES256, kid `e1`.
pub(super) const ES256: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImUxIiwidHlwIjoiSldUIn0.eyJleHAiOjQxMDI0NDQ4MDB9.PSG\
     3HW4ix_ffq9FT-vtWXl13c9Wu9xBCBzSY4l6CzQjGs-oMV1pFJaPzW8WhjjQJcDMAjldPYunCS-iJ4SH\
     ooA";
/// `{exp: far}`, HS256 with the text of `rs256.pem` as the secret.
pub(super) const CONFUSED: &str = "eyJhbGciOiAiSFMyNTYiLCAidHlwIjogIkpXVCJ9.eyJleHAiOiA0MTAyNDQ0ODAwfQ.-tjNGTzxVsCl\
     mB9fe_bETamzL5Ql99EzkyerqhW8-WQ";
