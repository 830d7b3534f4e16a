// SPDX-License-Identifier: Apache-2.0

// Package importer turns the policies of other systems into a rule file to be reviewed.
//
//	Import   the files of one format to a Result: the text of a rule file, and a Finding
//	         for each thing that it does not say as its source did
//
// A rule that comes out as a rule allows no more than its source and refuses no less. One that
// cannot be said so is left out: it stands in the file as a comment with the reason, and a Finding
// names the later rules that decide in its place, because the order is kept and the first rule that
// matches decides. An allow can come out narrower than it was, which a Finding tells as well.
//
// A source that is not of its format yields no rule file but rules.Problems, each with line
// and column. Sources are foreign bytes: nothing in them brings an importer down, and what of
// them is repeated in comments, ids and messages is printable ASCII. The package reads no file and
// asks no system. docs/importing.md says what becomes of what.
package importer
