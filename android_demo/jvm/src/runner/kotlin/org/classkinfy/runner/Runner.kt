package org.classkinfy.runner

import org.json.JSONObject
import org.junit.runner.Description
import org.junit.runner.JUnitCore
import org.junit.runner.notification.Failure
import org.junit.runner.notification.RunListener

/** Runs the named JUnit classes and prints a line of JSON for each test: class, name, outcome, message. */
fun main(classes: Array<String>) {
    val core = JUnitCore()
    core.addListener(Lines())
    core.run(*classes.map { Class.forName(it) }.toTypedArray())
}

private class Lines : RunListener() {
    private var outcome = "passed"
    private var message: String? = null

    override fun testStarted(description: Description) {
        outcome = "passed"
        message = null
    }

    override fun testFailure(failure: Failure) {
        outcome = "failed"
        message = failure.trimmedTrace
        // A class that could not be set up has no test that is going to finish.
        if (failure.description.methodName == null) print(failure.description)
    }

    override fun testAssumptionFailure(failure: Failure) {
        outcome = "skipped"
        message = failure.message
        if (failure.description.methodName == null) print(failure.description)
    }

    override fun testIgnored(description: Description) {
        outcome = "skipped"
        message = "ignored"
        print(description)
    }

    override fun testFinished(description: Description) = print(description)

    private fun print(description: Description) = println(
        JSONObject()
            .put("class", description.className)
            .put("name", description.methodName ?: "(the class)")
            .put("outcome", outcome)
            .put("message", message ?: JSONObject.NULL),
    )
}
