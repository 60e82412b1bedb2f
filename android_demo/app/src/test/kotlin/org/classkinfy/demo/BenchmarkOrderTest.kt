package org.classkinfy.demo

import java.io.File
import org.classkinfy.core.Form
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class BenchmarkOrderTest {
    private val given = mapOf(
        "bundle" to "/data/local/tmp/b", "photo" to "/data/local/tmp/p", "manifest_sha256" to "0123",
        "runtime" to "litert", "form" to "fused", "precision" to "fp32", "request" to "a1",
        "threads" to 4, "n" to 3, "warmup" to 2,
    )

    private class Read(private val values: Map<String, Any>) : BenchmarkOrder.Extras {
        val asked = HashSet<String>()

        override fun text(name: String): String? = values[name.also(asked::add)] as? String

        override fun number(name: String): Int? = values[name.also(asked::add)] as? Int
    }

    private fun refused(changed: Map<String, Any>, reason: String) {
        val error = assertThrows(IllegalArgumentException::class.java) { BenchmarkOrder(Read(changed)).order() }
        assertTrue(error.message, reason in error.message!!)
    }

    @Test
    fun theExtrasAreThoseThatTheToolkitSends() {
        val sent = System.getProperty("classkinfy.extras").split(' ').toSet()
        val read = Read(given)
        BenchmarkOrder(read).order()
        assertEquals(sent, read.asked)
    }

    @Test
    fun eachHasItsPlace() {
        val asked = BenchmarkOrder(Read(given))
        val order = asked.order()
        assertEquals("benchmark-a1.json", asked.fileName)
        assertEquals(File("/data/local/tmp/b") to File("/data/local/tmp/p"), order.bundle to order.photo)
        assertEquals(listOf(3, 2, 4), listOf(order.n, order.warmup, order.options.threads))
        assertEquals(listOf("litert", "fp32"), listOf(order.options.runtime, order.options.precision))
        assertEquals(Form.FUSED, order.options.form)
        assertEquals("0123" to "a1", order.manifestSha256 to order.request)
    }

    @Test
    fun whatIsMissingOrMakesNoSenseIsNamed() {
        for (name in given.keys) refused(given - name, "extra '$name' is missing")
        refused(given + ("form" to "both"), "give staged, fused")
        refused(given + ("n" to 0), "n is 0")
        refused(given + ("threads" to 0), "threads is 0")
    }

    @Test
    fun aRequestNamesNoOtherFile() = refused(given + ("request" to "../x"), "give letters")
}
