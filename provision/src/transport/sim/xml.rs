//! XML-RPC from the server's side, as supervisord writes it.

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let from = text.find(open)? + open.len();
    let end = from + text[from..].find(close)?;
    Some((&text[from..end], &text[end + close.len()..]))
}

/// Method and parameters of a call, the latter as text.
pub(super) fn call(body: &str) -> Option<(String, Vec<String>)> {
    let (method, mut rest) = between(body, "<methodName>", "</methodName>")?;
    let mut parameters = Vec::new();
    while let Some((value, behind)) = between(rest, "<value>", "</value>") {
        let text = value
            .split_once('>')
            .and_then(|(_, text)| text.rsplit_once("</"))
            .map_or(value, |(text, _)| text);
        parameters.push(unescape(text));
        rest = behind;
    }
    Some((method.to_string(), parameters))
}

pub(super) fn int(number: i64) -> String {
    format!("<value><int>{number}</int></value>\n")
}

pub(super) fn boolean(flag: bool) -> String {
    format!("<value><boolean>{}</boolean></value>\n", u8::from(flag))
}

pub(super) fn string(text: &str) -> String {
    format!("<value><string>{}</string></value>\n", escape(text))
}

pub(super) fn array(values: impl IntoIterator<Item = String>) -> String {
    format!("<value><array><data>\n{}</data></array></value>\n", values.into_iter().collect::<String>())
}

pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let members: String = fields
        .iter()
        .map(|(name, value)| format!("<member>\n<name>{name}</name>\n{value}</member>\n"))
        .collect();
    format!("<value><struct>\n{members}</struct></value>\n")
}

pub(super) fn reply(value: &str) -> String {
    format!(
        "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n{value}</param>\n</params>\n</methodResponse>\n"
    )
}

pub(super) fn fault(code: i64, text: &str) -> String {
    let value = fields(&[("faultCode", int(code)), ("faultString", string(text))]);
    format!("<?xml version='1.0'?>\n<methodResponse>\n<fault>\n{value}</fault>\n</methodResponse>\n")
}
