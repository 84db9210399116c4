// What Windows PowerShell 5.1 on .NET Framework 4.8 would not run of a script that PowerShell 7 parses.
// Not seen: which overload of an instance method is called, since the type of its object is known at run time only.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Management.Automation.Language;
using System.Text.RegularExpressions;

namespace PsHost
{
    sealed class Lint
    {
        /// <summary>Commands with the parameters that both 5.1 and 7 have, and the tests' PowerShell too.</summary>
        static readonly Dictionary<string, string[]> Commands = new(StringComparer.OrdinalIgnoreCase)
        {
            ["ConvertFrom-Json"] = new[] { "InputObject" },
            ["ConvertTo-Json"] = new[] { "InputObject", "Depth", "Compress" },
            ["Set-StrictMode"] = new[] { "Version" },
            ["Start-Sleep"] = new[] { "Seconds", "Milliseconds" },
            ["Where-Object"] = new[] { "FilterScript" },
            ["ForEach-Object"] = new[] { "Process" },
        };
        static readonly HashSet<string> NewVariables = Names("IsWindows IsLinux IsMacOS IsCoreCLR PSStyle PSNativeCommandArgumentPassing PSNativeCommandUseErrorActionPreference EnabledExperimentalFeatures");
        static readonly HashSet<string> AutomaticVariables = Names("host input args pid home pshome true false error profile this matches PSCmdlet PSItem _ sender event");
        static readonly Net48 Framework = Net48.Load();

        readonly string _file;
        readonly SortedSet<(int Line, int Column, string Rule, string Message)> _found = new();
        Lint(string file) { _file = file; }

        /// <summary>1 when anything was found; a line is file:line:column: rule: message.</summary>
        public static int Run(string[] files)
        {
            var exit = 0;
            foreach (var file in files)
            {
                var lint = new Lint(file);
                lint.Check();
                foreach (var (line, column, rule, message) in lint._found) Console.Out.WriteLine($"{file}:{line}:{column}: {rule}: {message}");
                if (lint._found.Count > 0) exit = 1;
            }
            return exit;
        }

        static HashSet<string> Names(string names) => new(names.Split(' '), StringComparer.OrdinalIgnoreCase);
        void Add(IScriptExtent at, string rule, string message) => _found.Add((at.StartLineNumber, at.StartColumnNumber, rule, message.ReplaceLineEndings(" ")));

        void Check()
        {
            if (File.ReadAllBytes(_file).Any(one => one > 127)) _found.Add((1, 1, "encoding", "not ASCII: 5.1 reads it in the code page of the machine"));
            var script = Parser.ParseInput(File.ReadAllText(_file), _file, out var tokens, out var errors);
            foreach (var error in errors) Add(error.Extent, "syntax", error.Message);
            CheckTokens(tokens);
            foreach (var node in script.FindAll(_ => true, true))
            {
                CheckSyntax(node);
                if (node is CommandAst command) CheckCommand(script, command);
                CheckType(node);
                if (node is MemberExpressionAst { Static: true } member) CheckMember(member);
            }
        }

        void CheckTokens(Token[] tokens)
        {
            Token before = null;
            foreach (var token in tokens)
            {
                var isHexadecimal = Regex.IsMatch(token.Text, "^0x[0-9a-f]+$", RegexOptions.IgnoreCase);
                if (token.Kind == TokenKind.Number && !isHexadecimal && Regex.IsMatch(token.Text, @"^0b|(?:u|us|ul|y|uy|s|n)(?:kb|mb|gb|tb|pb)?$", RegexOptions.IgnoreCase)) Add(token.Extent, "number", token.Text + " is a number from 6.2 on");
                if (token is StringExpandableToken && Regex.IsMatch(token.Text, @"(?<!`)(?:``)*`(?:e|u\{)")) Add(token.Extent, "escape", "`e and `u{} are from 6 on");
                if (token.Kind == TokenKind.Pipe && before?.Kind == TokenKind.NewLine) Add(token.Extent, "pipe", "a line may begin with | from 7 on");
                if (token.Kind is not (TokenKind.Comment or TokenKind.LineContinuation)) before = token;
            }
        }

        void CheckSyntax(Ast node)
        {
            switch (node)
            {
                case TernaryExpressionAst: Add(node.Extent, "ternary", "a ? b : c is from 7 on"); break;
                case PipelineChainAst: Add(node.Extent, "chain", "&& and || are from 7 on"); break;
                case BinaryExpressionAst { Operator: TokenKind.QuestionQuestion }: Add(node.Extent, "coalesce", "?? is from 7 on"); break;
                case AssignmentStatementAst { Operator: TokenKind.QuestionQuestionEquals }: Add(node.Extent, "coalesce", "??= is from 7 on"); break;
                case MemberExpressionAst { NullConditional: true }: Add(node.Extent, "nullcond", "?. is from 7.1 on"); break;
                case IndexExpressionAst { NullConditional: true }: Add(node.Extent, "nullcond", "?[] is from 7.1 on"); break;
                case PipelineAst { Background: true }: Add(node.Extent, "background", "& at the end is from 6 on"); break;
                case ScriptBlockAst { CleanBlock: not null }: Add(node.Extent, "clean", "clean {} is from 7.3 on"); break;
                case VariableExpressionAst variable when NewVariables.Contains(variable.VariablePath.UserPath): Add(node.Extent, "variable", node.Extent.Text + " is not in 5.1"); break;
            }
            if (node is AssignmentStatementAst { Left: VariableExpressionAst left } && AutomaticVariables.Contains(left.VariablePath.UserPath)) Add(node.Extent, "automatic", left.Extent.Text + " belongs to PowerShell");
        }

        void CheckCommand(Ast script, CommandAst command)
        {
            // none for `& $block`
            if (command.GetCommandName() is not string name) return;
            if (script.Find(one => one is FunctionDefinitionAst function && function.Name.Equals(name, StringComparison.OrdinalIgnoreCase), true) != null) return;
            if (!Commands.TryGetValue(name, out var parameters))
            {
                Add(command.Extent, "command", name + " is not on the list of commands");
                return;
            }
            foreach (var parameter in command.CommandElements.OfType<CommandParameterAst>())
                if (!parameters.Contains(parameter.ParameterName, StringComparer.OrdinalIgnoreCase)) Add(parameter.Extent, "parameter", $"{name} -{parameter.ParameterName} is not on the list of commands");
        }

        static bool IsPowerShells(Type type) => type.Assembly == typeof(PSObject).Assembly;

        void CheckType(Ast node)
        {
            var name = node is TypeExpressionAst expression ? expression.TypeName : node is TypeConstraintAst constraint ? constraint.TypeName : null;
            // The stand-in for IIS is not the measure, and [ordered] is a word of the language.
            if (name == null || name.FullName.StartsWith("Microsoft.Web.Administration.", StringComparison.OrdinalIgnoreCase) || name.FullName.Equals("ordered", StringComparison.OrdinalIgnoreCase)) return;
            var type = name.GetReflectionType();
            while (type is { HasElementType: true }) type = type.GetElementType();
            if (type == null) Add(node.Extent, "type", $"[{name.FullName}] is not known");
            else if (!IsPowerShells(type) && !Framework.HasType(type.FullName)) Add(node.Extent, "type", $"[{type.FullName}] is not in .NET Framework 4.8");
        }

        void CheckMember(MemberExpressionAst member)
        {
            if (member.Expression is not TypeExpressionAst on || member.Member is not StringConstantExpressionAst { Value: var name }) return;
            var type = on.TypeName.GetReflectionType();
            if (type == null || type.IsArray || IsPowerShells(type)) return;
            int? arguments = member is InvokeMemberExpressionAst call ? call.Arguments?.Count ?? 0 : null;
            var wanted = name.Equals("new", StringComparison.OrdinalIgnoreCase) ? ".ctor" : name;
            if (!Framework.HasMember(type.FullName, wanted, arguments)) Add(member.Extent, "member", $"[{type.FullName}]::{name}{(arguments == null ? "" : $" with {arguments} arguments")} is not in .NET Framework 4.8");
        }
    }
}
