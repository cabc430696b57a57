//! Takes secrets out of configuration that is shown: whatever stands where a secret stands becomes `***`. Pure.
//!
//! It goes by the place, not by the value: of a host's own text we do not know the secrets, and an old secret is as
//! worth hiding as a new one. So a template may put a secret only where this module looks: as the value of a key or
//! flag whose name says so, in the user information of a URL, in a PEM block that is not public, or in a file that is
//! a secret as a whole.

use std::path::Path;

/// What stands in the place of a secret.
pub const HIDDEN: &str = "***";

/// Parts of the names of keys, flags and variables whose value is a secret.
const SECRET_NAMES: [&str; 9] =
    ["password", "passwd", "passphrase", "secret", "token", "credential", "privatekey", "apikey", "nkeyseed"];
/// The same, but only as a whole name.
const SECRET_WORDS: [&str; 4] = ["pass", "pwd", "jwt", "auth"];
/// How names end whose value says only where the secret lies.
const PLACES: [&str; 4] = ["file", "path", "dir", "directory"];

/// Whether nothing of a file is ever shown, since it is a secret as a whole.
pub fn is_secret_file(path: &Path) -> bool {
    let lower = |part: Option<&std::ffi::OsStr>| {
        part.map(|part| part.to_string_lossy().to_lowercase()).unwrap_or_default()
    };
    let (name, extension) = (lower(path.file_stem()), lower(path.extension()));
    let parts = ["secret", "password", "passphrase", "token", "credential"];
    parts.iter().any(|part| name.contains(part))
        || ["key", "creds", "nk", "secret", "token", "password"].contains(&&*extension)
}

/// A text with `***` in the place of every secret; as many lines as before.
pub fn text(text: &str) -> String {
    let mut in_block = false;
    let mut out = String::with_capacity(text.len());
    for whole in text.split_inclusive('\n') {
        let line = whole.trim_end_matches(['\n', '\r']);
        if let Some(begun) = block_begins(line) {
            in_block = begun;
            out.push_str(&self::line(line));
        } else if line.trim_start().starts_with("-----END ") || line.trim_start().starts_with("------END ") {
            in_block = false;
            out.push_str(line);
        } else if in_block {
            out.push_str(HIDDEN);
        } else {
            out.push_str(&self::line(line));
        }
        out.push_str(&whole[line.len()..]);
    }
    out
}

/// Whether a line begins a block in PEM's form, and whether that is secret: all but certificates and public keys.
fn block_begins(line: &str) -> Option<bool> {
    let (_, label) = line.split_once("-----BEGIN ")?;
    Some(!(label.starts_with("CERTIFICATE") || label.starts_with("PUBLIC KEY")))
}

/// A line without its secrets.
fn line(line: &str) -> String {
    let hidden = values(&user_information(line));
    hidden.split_inclusive(|c: char| !c.is_ascii_alphanumeric()).map(nkey_seed).collect()
}

/// `scheme://user:password@host` keeps scheme and host.
fn user_information(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "\"'<>".contains(c)).unwrap_or(after.len());
        // To the last `@`: what is hidden too much is a host's name in a list of URLs.
        rest = match after[..end].rfind('@') {
            Some(at) => {
                out.push_str(HIDDEN);
                &after[at..]
            }
            None => after,
        };
    }
    out + rest
}

/// Every value behind a name that tells of a secret: `name: value`, `name = value`, `name value`, `--name value`.
fn values(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    while let Some(start) = rest.find(is_name) {
        let length = rest[start..].find(|c| !is_name(c)).unwrap_or(rest.len() - start);
        let (before, name) = (&rest[..start], &rest[start..start + length]);
        let after = &rest[start + length..];
        out.push_str(before);
        out.push_str(name);
        rest = after;
        if !tells_of_a_secret(name) {
            continue;
        }
        // A blank parts name and value only where a name can stand: a path may end like one.
        let begun = out[..out.len() - name.len()].trim_end();
        let alone = name.starts_with('-') || begun.is_empty() || begun.ends_with(['{', ',', ';', '#']);
        let Some((separator, value)) = value_behind(alone, after) else { continue };
        let end = value_end(value, name.starts_with('-'));
        if end > 0 {
            out.push_str(separator);
            out.push_str(HIDDEN);
            rest = &value[end..];
        }
    }
    out + rest
}

fn tells_of_a_secret(name: &str) -> bool {
    let words: Vec<String> =
        name.split(['-', '_', '.']).filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect();
    if words.last().is_some_and(|last| PLACES.contains(&&**last)) {
        return false;
    }
    let whole = words.concat();
    SECRET_NAMES.iter().any(|part| whole.contains(part))
        || words.iter().any(|word| SECRET_WORDS.contains(&&**word))
}

/// What parts a name from its value, and the value with all that follows; none when no value follows. A blank is enough
/// behind a name that stands `alone`.
fn value_behind(alone: bool, after: &str) -> Option<(&str, &str)> {
    let unquoted = after.strip_prefix(['"', '\'']).unwrap_or(after);
    let trimmed = unquoted.trim_start();
    let value = match trimmed.strip_prefix([':', '=']) {
        Some(value) => value.trim_start(),
        // NATS takes `name "value"` and `name value`, too; a block of settings is no value.
        None if alone && trimmed.len() < unquoted.len() => trimmed,
        None => return None,
    };
    if value.is_empty() || ["{", "["].contains(&value.trim_end()) {
        return None;
    }
    Some(after.split_at(after.len() - value.len()))
}

/// Where a value ends. What has no quotes ends with its line: better too much is hidden than too little; only the
/// value of a flag ends at a blank.
fn value_end(value: &str, flag: bool) -> usize {
    let quoted = value.starts_with(['"', '\'']);
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, c) in value.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if flag && c.is_whitespace() => return at,
            None if quoted && !flag && (c.is_whitespace() || ",;}])".contains(c)) => return at,
            None => {}
        }
    }
    value.len()
}

/// A seed of a NATS key pair tells itself: 58 letters of base 32 that begin with `S`.
fn nkey_seed(word: &str) -> String {
    let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    let base32 = |c: char| c.is_ascii_uppercase() || ('2'..='7').contains(&c);
    if bare.len() == 58 && bare.starts_with('S') && bare.chars().all(base32) {
        return format!("{HIDDEN}{}", &word[bare.len()..]);
    }
    word.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_stands_where_a_secret_stands_is_hidden() {
        for (shown, expected) in [
            ("  password: \"hunter2\"", "  password: ***"),
            ("authorization { user: a, password: hunter 2 }", "authorization { user: a, password: ***"),
            ("{user: \"a\", password: \"b,}\", account: X}", "{user: \"a\", password: ***, account: X}"),
            ("token = abc", "token = ***"),
            ("token abc", "token ***"),
            ("\"password\": \"x\\\"y\", \"user\": \"a\"", "\"password\": ***, \"user\": \"a\""),
            (
                "environment=NATS_TOKEN=\"x y\",RUST_LOG=\"info\"",
                "environment=NATS_TOKEN=***,RUST_LOG=\"info\"",
            ),
            ("command=/bin/x --token s3cr3t --cluster local", "command=/bin/x --token *** --cluster local"),
            ("command=/bin/x --nats-password='a b' run", "command=/bin/x --nats-password=*** run"),
            ("command=/bin/x --nats nats://u:p@h:4222 run", "command=/bin/x --nats nats://***@h:4222 run"),
            ("  \"nats://u:p@ss@h:1\", \"nats://h2:1\"", "  \"nats://***@h:1\", \"nats://h2:1\""),
        ] {
            assert_eq!(text(shown), expected);
        }
        let seed = format!("S{}", "UA2B".repeat(15)).split_at(58).0.to_string();
        assert_eq!(text(&format!("seed: {seed},")), "seed: ***,");
        let key = "-----BEGIN PRIVATE KEY-----\nMIIE\nabc=\n-----END PRIVATE KEY-----\nport: 1\n";
        assert_eq!(text(key), "-----BEGIN PRIVATE KEY-----\n***\n***\n-----END PRIVATE KEY-----\nport: 1\n");
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for shown in [
            "command=/p/bin/autonomys-farmer cluster --cluster-secret-file /p/etc/cluster-secret --cluster local",
            "environment=AUTONOMYS_PREFIX=\"/p\",MALLOC_MMAP_THRESHOLD_=\"262144\"",
            "  \"nats://192.168.1.1:4248\"",
            "authorization {",
            "server_name: \"guide-node-1\"",
            "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----\n",
            "cert_file: \"/p/etc/tls/cert.pem\"\r\nkey_file: \"/p/etc/tls/host.key\"\r\n",
        ] {
            assert_eq!(text(shown), shown);
        }
        let nats = include_str!("../../templates/golden/local/etc/nats-server.conf");
        let hidden = nats.replace("\"NATS-CLIENT-PASSWORD\"", HIDDEN);
        assert_eq!(text(nats), hidden, "its password is, and nothing else");
        for golden in [
            include_str!("../../templates/golden/local/etc/supervisord.conf"),
            include_str!("../../templates/golden/local/etc/supervisor.d/autonomys-plot-client.conf"),
            include_str!("../../templates/golden/dual-gpu/etc/supervisor.d/autonomys-plot-server-0.conf"),
        ] {
            assert_eq!(text(golden), golden, "nothing of today's templates is a secret");
        }
    }

    #[test]
    fn files_that_are_secrets() {
        for secret in
            ["/p/etc/cluster-secret", "/p/etc/tls/host.key", "/etc/nats/user.creds", "/x/api-token.txt"]
        {
            assert!(is_secret_file(Path::new(secret)), "{secret}");
        }
        for shown in ["/p/etc/nats-server.conf", "/p/etc/tls/ca.pem", "/p/secrets/nats.conf"] {
            assert!(!is_secret_file(Path::new(shown)), "{shown}");
        }
    }

    proptest! {
        /// Any secret at any place that a template may use, beside anything else.
        #[test]
        fn no_secret_is_left(secret in "[!-~]{16,40}", around in "[ -~]{0,20}", place in 0..7usize) {
            let escaped = secret.replace('\\', "\\\\").replace('"', "\\\"");
            let line = match place {
                0 => format!("  password: \"{escaped}\" # {around}"),
                1 => format!("token: {secret}"),
                2 => format!("environment=A=\"1\",NATS_PASSWORD=\"{escaped}\",B=\"2\""),
                3 => format!("command=/bin/x --api-key \"{escaped}\" role"),
                4 => format!("nats://user:{}@10.0.0.1:4222", secret.replace(['"', '\'', '<', '>'], "x")),
                5 => format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----"),
                _ => format!("{{user: a, pass: \"{escaped}\"}}"),
            };
            // What a template would write at this place, and the secret itself.
            let written = if place == 4 { secret.replace(['"', '\'', '<', '>'], "x") } else { escaped };
            // PEM's own lines are no secret.
            prop_assume!(!secret.contains("-----"));
            let shown = text(&line);
            prop_assert!(!shown.contains(&written) && !shown.contains(&secret), "{shown}");
            prop_assert_eq!(shown.lines().count(), line.lines().count());
        }
    }
}
