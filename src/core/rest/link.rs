//! The header `Link` (RFC 8288), as far as it leads to the next page.

/// The address with the relation `next` in a header's value, as it stands there.
pub fn next(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let (_, tail) = rest.split_once('<')?;
        let (address, after) = tail.split_once('>')?;
        let (parameters, others) = parameters(after);
        if parameters.iter().any(|(name, value)| name.eq_ignore_ascii_case("rel") && has_next(value)) {
            return Some(address.trim());
        }
        rest = others;
    }
}

/// A relation may be one of several, with blanks between them.
fn has_next(relations: &str) -> bool {
    relations.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"))
}

/// The parameters up to the comma that ends this link, and what follows; a comma in quotes ends nothing.
fn parameters(text: &str) -> (Vec<(&str, &str)>, &str) {
    let mut quoted = false;
    let mut escaped = false;
    let end = text.find(|c| {
        let ends = c == ',' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && quoted && !escaped;
        ends
    });
    let (own, others) = text.split_at(end.unwrap_or(text.len()));
    let pairs = own.split(';').filter_map(|part| {
        let (name, value) = part.split_once('=')?;
        Some((name.trim(), value.trim().trim_matches('"')))
    });
    (pairs.collect(), others.strip_prefix(',').unwrap_or(others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, expect: Option<&str>) {
        assert_eq!(next(header), expect, "{header}");
    }

    #[test]
    fn the_next_page_is_found_among_others() {
        check("<https://a/x?page=2>; rel=\"next\"", Some("https://a/x?page=2"));
        check("</x?a=1,2>; rel=prev, </x?p=3>; title=\"a, b; rel=next\"; rel=\"last Next\"", Some("/x?p=3"));
        check("<a>; rel=prev,<b> ; REL = next", Some("b"));
        check("<a>; rel=nextish, <b>; rev=next", None);
        check("<a>; rel=\"next", Some("a"));
        for nothing in ["", "<", "<a", "a; rel=next", "<a>", "<a>; rel"] {
            check(nothing, None);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_read_to_its_end(text in "[<>;,=\" relnxt\\\\é]{0,60}") {
            let _ = next(&text);
        }

        #[test]
        fn whatever_stands_before_it_is_found(title in "[a-z,;<>= ]{0,12}") {
            let header = format!("<a>; rel=prev; title=\"{title}\", <b>; rel=next");
            proptest::prop_assert_eq!(next(&header), Some("b"));
        }
    }
}
