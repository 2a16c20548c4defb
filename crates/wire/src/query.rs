//! The Query protocol, as far as STS needs it: form parameters in, XML out.

use crate::{Error, Reply};

/// The `Action` of a form, if it has one.
pub fn action(form: &[u8]) -> Option<String> {
    form_urlencoded::parse(form).find(|(key, _)| key == "Action").map(|(_, value)| value.into_owned())
}

/// `<ActionResponse><ActionResult>…</ActionResult>…</ActionResponse>`; `members` are names and texts.
pub fn reply(action: &str, namespace: &str, members: &[(&str, &str)], request_id: &str) -> Reply {
    let members: String = members.iter().map(|(name, text)| format!("<{name}>{}</{name}>", escape(text))).collect();
    let xml = format!(
        "<{action}Response xmlns=\"{namespace}\"><{action}Result>{members}</{action}Result><ResponseMetadata><RequestId>\
         {request_id}</RequestId></ResponseMetadata></{action}Response>"
    );
    Reply::new(200, "text/xml", xml)
}

pub fn error(error: &Error, namespace: &str, request_id: &str) -> Reply {
    let fault = if error.status < 500 { "Sender" } else { "Receiver" };
    let message = escape(error.message.as_deref().unwrap_or_default());
    let xml = format!(
        "<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{fault}</Type><Code>{}</Code><Message>{message}</Message>\
         </Error><RequestId>{request_id}</RequestId></ErrorResponse>",
        escape(&error.code)
    );
    Reply::new(error.status, "text/xml", xml)
}

/// Text inside an element.
pub fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        let reply = reply("Get", "n", &[("A", "<&>")], "r");
        assert!(String::from_utf8(reply.body.to_vec()).unwrap().contains("<A>&lt;&amp;&gt;</A>"));
        assert_eq!(action(b"Version=1&Action=Get").as_deref(), Some("Get"));
    }
}
