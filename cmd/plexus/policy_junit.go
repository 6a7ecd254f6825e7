package main

import (
	"encoding/xml"
	"strings"
)

// The elements of a JUnit report that readers of it have in common (Jenkins,
// GitLab, GitHub actions).
type junitReport struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// encodeJUnit makes a suite of each file.
func encodeJUnit(results []testResult) ([]byte, error) {
	var report junitReport
	for _, r := range results {
		n := len(report.Suites)
		if n == 0 || report.Suites[n-1].Name != r.File {
			report.Suites = append(report.Suites, junitSuite{Name: r.File})
			n++
		}
		report.add(&report.Suites[n-1], r)
	}
	data, err := xml.MarshalIndent(report, "", "  ")
	return append([]byte(xml.Header), append(data, '\n')...), err
}

func (j *junitReport) add(s *junitSuite, r testResult) {
	c := junitCase{Name: r.Name, Class: "plexus.policy", File: r.File, Line: r.Line}
	if !r.Pass {
		var text strings.Builder
		writeJudgements(&text, "", r.Directions, r.Notes)
		c.Failure = &junitFailure{Message: r.summary(), Text: text.String()}
		j.Failures++
		s.Failures++
	}
	j.Tests++
	s.Tests++
	s.Cases = append(s.Cases, c)
}
