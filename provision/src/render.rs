//! Templates into files. Pure: the templates are part of the binary.

use crate::derive::{Affinity, Program};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::redact;
use crate::resolve::{Cluster, Host};
use primitives::cluster_secret::NatsUser;
use serde::Serialize;
use serde::ser::SerializeStruct;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tera::{Context, Tera};

const TEMPLATES: [(&str, &str); 6] = [
    ("supervisor/supervisord.conf", include_str!("../../templates/supervisor/supervisord.conf.tera")),
    ("supervisor/program.conf", include_str!("../../templates/supervisor/program.conf.tera")),
    ("nats/nats-server.conf", include_str!("../../templates/nats/nats-server.conf.tera")),
    ("numactl/prefix", include_str!("../../templates/numactl/prefix.tera")),
    ("monitoring/prometheus.yml", include_str!("../../templates/monitoring/prometheus.yml.tera")),
    ("monitoring/autonomys.rules.yml", include_str!("../../templates/monitoring/autonomys.rules.yml.tera")),
];

/// A file to be on a host. Neither printed nor serialised does it show a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct RenderedFile {
    /// Where.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Its mode.
    pub mode: u32,
}

impl RenderedFile {
    /// SHA-256 of its text in hex.
    pub fn digest(&self) -> String {
        digest(&self.text)
    }

    /// Its text without secrets.
    pub fn shown(&self) -> String {
        if redact::is_secret_file(&self.path) { redact::HIDDEN.to_string() } else { redact::text(&self.text) }
    }
}

impl std::fmt::Debug for RenderedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RenderedFile")
            .field("path", &self.path)
            .field("text", &self.shown())
            .field("mode", &self.mode)
            .finish()
    }
}

impl Serialize for RenderedFile {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut file = serializer.serialize_struct("RenderedFile", 3)?;
        file.serialize_field("path", &self.path)?;
        file.serialize_field("text", &self.shown())?;
        file.serialize_field("mode", &self.mode)?;
        file.end()
    }
}

pub(crate) fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Renders every file of a host; `programs` gets the digest of configuration that it reads into its environment, so
/// that Supervisor sees when that changed.
///
/// # Errors
/// A template is wrong, or a value cannot be carried by the format.
pub fn files(cluster: &Cluster, host: &Host, programs: &mut [Program]) -> Result<Vec<RenderedFile>> {
    let layout = Layout::of(host);
    let tera = templates()?;
    let mut files = Vec::new();
    if host.node.is_some() {
        let text = nats(tera, cluster, host, &layout)?;
        for program in programs.iter_mut().filter(|program| program.role == crate::derive::Role::NatsServer) {
            program.environment.insert("AUTONOMYS_CONFIG".to_string(), digest(&text)[..16].to_string());
        }
        // The passwords of NATS stand in it.
        files.push(RenderedFile { path: layout.nats_conf(), text, mode: 0o600 });
    }
    let mut context = Context::new();
    context.insert("cluster", &cluster.name);
    context.insert("prefix", &layout.prefix);
    context.insert("socket", &layout.socket());
    context.insert("pidfile", &layout.run().join("supervisord.pid"));
    context.insert("logs", &layout.logs());
    context.insert("programs", &layout.etc().join("supervisor.d/*.conf"));
    let text = render(tera, "supervisor/supervisord.conf", &context)?;
    files.push(RenderedFile { path: layout.supervisord_conf(), text, mode: 0o644 });
    for program in programs.iter() {
        files.push(RenderedFile {
            path: layout.program_conf(&program.name),
            text: supervised(tera, program, &layout)?,
            mode: 0o644,
        });
    }
    Ok(files)
}

fn supervised(tera: &Tera, program: &Program, layout: &Layout) -> Result<String> {
    let mut command = Vec::new();
    for word in &program.command {
        command.push(supervisor_word(word)?);
    }
    let mut environment = Vec::new();
    for (name, value) in &program.environment {
        environment.push(format!("{name}={}", supervisor_value(value)?));
    }
    let mut context = Context::new();
    context.insert("name", &program.name);
    context.insert("role", program.role.name());
    context.insert("command", &command.join(" "));
    context.insert("environment", &environment.join(","));
    context.insert("directory", &layout.data());
    context.insert("log", &layout.log(&program.name));
    context.insert("log_megabytes", &program.log_megabytes);
    context.insert("stop_seconds", &program.stop_seconds);
    render(tera, "supervisor/program.conf", &context)
}

fn nats(tera: &Tera, cluster: &Cluster, host: &Host, layout: &Layout) -> Result<String> {
    let node = host.node.as_ref().expect("called for node hosts only");
    let mut context = Context::new();
    context.insert("server_name", &node.nats.server_name.value);
    let listen = SocketAddr::new(host.address.value, node.nats.port.value);
    context.insert("listen", &listen.to_string());
    context.insert("monitor_port", &node.nats.monitor_port.value);
    context.insert("max_payload", &node.nats.max_payload.value);
    context.insert("store_dir", &layout.data().join("nats"));
    for (name, user) in [("client", NatsUser::Client), ("route", NatsUser::Route)] {
        context.insert(format!("{name}_user"), user.name());
        context.insert(format!("{name}_password"), user.mark());
    }
    context.insert("tls", &node.nats.tls.as_ref().map(|tls| &tls.value));
    if let Some(port) = node.nats.cluster_port {
        context.insert("cluster", &cluster.name);
        context.insert("cluster_listen", &SocketAddr::new(host.address.value, port.value).to_string());
        context.insert("routes", &cluster.nats_routes());
    }
    render(tera, "nats/nats-server.conf", &context)
}

/// The words that bind a program to CPUs and memory.
pub(crate) fn numactl(numactl: &Path, affinity: &Affinity) -> Vec<String> {
    let mut context = Context::new();
    context.insert("numactl", numactl);
    context.insert("cpus", &affinity.list());
    let text = templates().and_then(|tera| render(tera, "numactl/prefix", &context));
    text.expect("the template is part of the binary and has no other input")
        .split_whitespace()
        .map(String::from)
        .collect()
}

/// The templates, compiled once: that takes longer than all that a host is rendered from them.
pub(crate) fn templates() -> Result<&'static Tera> {
    static COMPILED: OnceLock<Tera> = OnceLock::new();
    if let Some(compiled) = COMPILED.get() {
        return Ok(compiled);
    }
    let mut tera = Tera::default();
    tera.add_raw_templates(TEMPLATES).map_err(|error| Error::Template(chain(&error)))?;
    // Configuration files, not web pages.
    tera.autoescape_on(Vec::new());
    tera.register_filter("ini", |value: &tera::Value, _: &std::collections::HashMap<String, tera::Value>| {
        Ok(tera::Value::String(value.as_str().unwrap_or_default().replace('%', "%%")))
    });
    Ok(COMPILED.get_or_init(|| tera))
}

pub(crate) fn render(tera: &Tera, name: &str, context: &Context) -> Result<String> {
    tera.render(name, context).map_err(|error| Error::Template(chain(&error)))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// Supervisor's files have no escape for these; what may come from an inventory is refused there already.
fn check_carried(text: &str) -> Result<()> {
    let comment = text.contains(" ;") || text.contains(" #") || text.contains("\t;") || text.contains("\t#");
    if comment || text.contains(|c: char| c.is_control()) {
        let message =
            format!("Supervisor's configuration cannot carry {text:?} (control character, or ` ;`, ` #`)");
        return Err(Error::Template(message));
    }
    Ok(())
}

/// A word of `command=`: quoted as shlex wants it; `%` is doubled by the template.
fn supervisor_word(word: &str) -> Result<String> {
    check_carried(word)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Ok(word.to_string());
    }
    Ok(format!("'{}'", word.replace('\'', "'\"'\"'")))
}

/// A value of `environment=`; `%` is doubled by the template.
fn supervisor_value(value: &str) -> Result<String> {
    check_carried(value)?;
    if value.contains(['"', '\\']) {
        return Err(Error::Template(format!("a variable for Supervisor cannot carry {value:?}")));
    }
    Ok(format!("\"{value}\""))
}

/// The files by path, for comparing.
pub fn by_path(files: &[RenderedFile]) -> BTreeMap<&Path, &RenderedFile> {
    files.iter().map(|file| (file.path.as_path(), file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_supervisor() {
        assert_eq!(supervisor_word("path=/a/b,sectors=3").expect("plain"), "path=/a/b,sectors=3");
        assert_eq!(supervisor_word("a b").expect("quoted"), "'a b'");
        assert_eq!(supervisor_word("").expect("quoted"), "''");
        assert!(supervisor_word("a ;b").is_err());
        assert!(supervisor_word("a\nb").is_err());
        assert_eq!(supervisor_value("x=1").expect("fine"), "\"x=1\"");
        assert!(supervisor_value("\"").is_err());
    }
}
