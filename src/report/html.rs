//! Text and frames of the page.

/// Escapes text for HTML, in elements and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Control characters that HTML forbids.
            '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A section: its title, how to read it, and its content. `body` is markup.
pub(super) fn section(title: &str, how_to_read: &str, body: &str) -> String {
    format!(
        "<section><div class=\"margin\"><h2>{}</h2><p>{}</p></div>\
         <div class=\"body\">{body}</div></section>\n",
        escape(title),
        escape(how_to_read)
    )
}

/// A figure under its caption. `note` and `body` are markup.
pub(super) fn figure(class: &str, title: &str, note: &str, body: &str) -> String {
    let title = escape(title);
    let note = if note.is_empty() { String::new() } else { format!("<span>{note}</span>") };
    format!(
        "<figure class=\"{class}\"><figcaption><b>{title}</b>{note}</figcaption>{body}</figure>"
    )
}

/// A name in the colour of its curve.
pub(super) fn coloured(hue: &str, name: &str) -> String {
    format!("<i class=\"key {hue}\">{}</i>", escape(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_of_markup_and_control_characters_replaces_each() {
        assert_eq!(escape("<b a=\"1\" c='2'>&"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;");
        assert_eq!(escape("a\0b\u{1b}\tc\n"), "a\u{fffd}b\u{fffd}\tc\n");
    }
}
