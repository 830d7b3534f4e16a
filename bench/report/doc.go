// SPDX-License-Identifier: Apache-2.0

// Package report shows reports of package bench to people: a page of HTML that needs nothing beside
// it, plots as SVG and PNG, and a table in Markdown.
//
//	New     a report that was read back, with its name -> Run
//	Plots   the plots that its rows allow, Render one of them as a file
//	HTML    the page of some runs
//	Markdown  the table of one
//
// What a run says of its bars is printed as the report has it: nothing is judged here. Nothing in this
// package measures, and only the command line imports it, so that its plotting library is in no process
// that is timed.
package report
