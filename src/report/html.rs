//! The words and the frame of the page.

/// Text as HTML, also inside of quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // What HTML has no place for.
            '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A part of the page: its name, a line or two on how to read it, and what there is to see.
pub(super) fn section(title: &str, how_to_read: &str, body: &str) -> String {
    format!(
        "<section><div class=\"margin\"><h2>{}</h2><p>{}</p></div><div class=\"body\">{body}</div></section>\n",
        escape(title),
        escape(how_to_read)
    )
}

/// Something to look at under a line of text. `note` is markup.
pub(super) fn figure(class: &str, title: &str, note: &str, body: &str) -> String {
    let title = escape(title);
    let note = if note.is_empty() { String::new() } else { format!("<span>{note}</span>") };
    format!(
        "<figure class=\"{class}\"><figcaption><b>{title}</b>{note}</figcaption>{body}</figure>"
    )
}

/// A name in its colour.
pub(super) fn coloured(hue: &str, name: &str) -> String {
    format!("<i class=\"key {hue}\">{}</i>", escape(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_control_characters_are_disarmed() {
        assert_eq!(escape("<b a=\"1\" c='2'>&"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;");
        assert_eq!(escape("a\0b\u{1b}\tc\n"), "a\u{fffd}b\u{fffd}\tc\n");
    }
}
