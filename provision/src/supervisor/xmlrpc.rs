//! As much of XML-RPC as supervisord speaks.

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Integer(i64),
    Boolean(bool),
    Double(f64),
    String(String),
    Array(Vec<Value>),
    Struct(Vec<(String, Value)>),
    Nil,
}

impl Value {
    pub(super) fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Double(number) => Some(*number as i64),
            _ => None,
        }
    }

    pub(super) fn as_u32(&self) -> Option<u32> {
        self.as_i64().and_then(|number| u32::try_from(number).ok())
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    pub(super) fn field(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Struct(fields) => fields.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    Value(Value),
    Fault { code: i64, text: String },
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

pub(super) fn request(method: &str, parameters: &[Value]) -> String {
    let parameters: String = parameters
        .iter()
        .map(|parameter| match parameter {
            Value::String(text) => format!("<param><value><string>{}</string></value></param>", escape(text)),
            Value::Boolean(flag) => {
                format!("<param><value><boolean>{}</boolean></value></param>", u8::from(*flag))
            }
            other => unreachable!("no method of ours takes {other:?}"),
        })
        .collect();
    format!(
        "<?xml version=\"1.0\"?><methodCall><methodName>{method}</methodName><params>{parameters}</params></methodCall>"
    )
}

pub(super) fn reply(text: &str) -> Result<Reply, String> {
    let mut parser = Parser { rest: text, depth: 0 };
    parser.open("methodResponse")?;
    if parser.try_open("fault") {
        let value = parser.value()?;
        let code = value.field("faultCode").and_then(Value::as_i64).ok_or("a fault without code")?;
        let text = value.field("faultString").and_then(Value::as_str).unwrap_or_default().to_string();
        return Ok(Reply::Fault { code, text });
    }
    parser.open("params")?;
    parser.open("param")?;
    parser.value().map(Reply::Value)
}

/// Deepest nesting; supervisord's own is 4.
const DEPTH_MAX: usize = 16;

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    /// Skips blanks, the declaration and comments.
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            let end = if self.rest.starts_with("<?") {
                self.rest.find("?>").map(|at| at + 2)
            } else if self.rest.starts_with("<!--") {
                self.rest.find("-->").map(|at| at + 3)
            } else {
                None
            };
            match end {
                Some(end) => self.rest = &self.rest[end..],
                None => return,
            }
        }
    }

    fn try_tag(&mut self, tag: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(tag) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn try_open(&mut self, name: &str) -> bool {
        self.try_tag(&format!("<{name}>"))
    }

    fn open(&mut self, name: &str) -> Result<(), String> {
        if self.try_open(name) { Ok(()) } else { Err(self.unexpected(&format!("<{name}>"))) }
    }

    fn close(&mut self, name: &str) -> Result<(), String> {
        if self.try_tag(&format!("</{name}>")) { Ok(()) } else { Err(self.unexpected(&format!("</{name}>"))) }
    }

    fn unexpected(&self, wanted: &str) -> String {
        let found: String = self.rest.chars().take(40).collect();
        format!("expected {wanted}, found {found:?}")
    }

    fn text(&mut self) -> Result<String, String> {
        let end = self.rest.find('<').ok_or_else(|| self.unexpected("a tag"))?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        unescape(text)
    }

    fn value(&mut self) -> Result<Value, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} deep"));
        }
        self.skip();
        if self.try_tag("<value/>") {
            self.depth -= 1;
            return Ok(Value::String(String::new()));
        }
        self.open("value")?;
        // Without a type it is a string; blanks before a type mean nothing.
        let value = if self.rest.trim_start().starts_with('<') && !self.rest.starts_with("</value>") {
            self.skip();
            self.typed()?
        } else {
            Value::String(self.text()?)
        };
        self.close("value")?;
        self.depth -= 1;
        Ok(value)
    }

    fn typed(&mut self) -> Result<Value, String> {
        for empty in ["string", "nil"] {
            if self.try_tag(&format!("<{empty}/>")) {
                return Ok(if empty == "nil" { Value::Nil } else { Value::String(String::new()) });
            }
        }
        if self.try_open("array") {
            return self.array();
        }
        if self.try_open("struct") {
            return self.fields();
        }
        for name in ["int", "i4", "boolean", "double", "string"] {
            // No blanks are skipped behind the tag: they may be part of a string.
            let Some(rest) = self.rest.strip_prefix(&format!("<{name}>")) else { continue };
            self.rest = rest;
            let text = self.text()?;
            self.close(name)?;
            let wrong = || format!("{text:?} is no {name}");
            return match name {
                "string" => Ok(Value::String(text)),
                "boolean" => Ok(Value::Boolean(text.trim() == "1")),
                "double" => text.trim().parse().map(Value::Double).map_err(|_| wrong()),
                _ => text.trim().parse().map(Value::Integer).map_err(|_| wrong()),
            };
        }
        Err(self.unexpected("a value"))
    }

    fn array(&mut self) -> Result<Value, String> {
        let mut values = Vec::new();
        if !self.try_tag("<data/>") {
            self.open("data")?;
            while !self.try_tag("</data>") {
                values.push(self.value()?);
            }
        }
        self.close("array")?;
        Ok(Value::Array(values))
    }

    fn fields(&mut self) -> Result<Value, String> {
        let mut fields = Vec::new();
        while !self.try_tag("</struct>") {
            self.open("member")?;
            self.open("name")?;
            let name = self.text()?;
            self.close("name")?;
            fields.push((name, self.value()?));
            self.close("member")?;
        }
        Ok(Value::Struct(fields))
    }
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let end = rest[at..].find(';').ok_or("an entity without `;`")? + at;
        let entity = &rest[at + 1..end];
        out.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => entity
                .strip_prefix("#x")
                .map(|hex| u32::from_str_radix(hex, 16))
                .or_else(|| entity.strip_prefix('#').map(str::parse))
                .and_then(Result::ok)
                .and_then(char::from_u32)
                .ok_or_else(|| format!("the entity &{entity};"))?,
        });
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_of_supervisord() {
        let text = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><array><data>\n<value><array>\
                    <data>\n<value><array><data>\n<value><string>a&amp;b</string></value>\n</data></array></value>\n\
                    <value><array><data>\n</data></array></value>\n<value><array><data>\n</data></array></value>\n\
                    </data></array></value>\n</data></array></value>\n</param>\n</params>\n</methodResponse>\n";
        let added = Value::Array(vec![Value::String("a&b".to_string())]);
        let lists = Value::Array(vec![added, Value::Array(vec![]), Value::Array(vec![])]);
        assert_eq!(reply(text), Ok(Reply::Value(Value::Array(vec![lists]))));
    }

    #[test]
    fn structs_faults_and_bare_strings() {
        let text = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>92</int></value>\
                    </member><member><name>faultString</name><value>CANT_REREAD: x</value></member></struct></value>\
                    </fault></methodResponse>";
        assert_eq!(reply(text), Ok(Reply::Fault { code: 92, text: "CANT_REREAD: x".to_string() }));
    }

    #[test]
    fn nonsense_is_an_error_and_depth_is_bounded() {
        for text in ["", "<html>", "<methodResponse><params><param><value><int>x</int></value>"] {
            assert!(reply(text).is_err(), "{text}");
        }
        let deep = format!("<methodResponse><params><param>{}", "<value><array><data>".repeat(100_000));
        assert!(reply(&deep).expect_err("bounded").contains("nested"));
    }

    #[test]
    fn requests_are_escaped() {
        let text =
            request("supervisor.startProcess", &[Value::String("a<b".to_string()), Value::Boolean(false)]);
        assert!(text.contains("<string>a&lt;b</string>") && text.contains("<boolean>0</boolean>"), "{text}");
    }
}
